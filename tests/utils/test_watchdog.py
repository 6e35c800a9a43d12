"""A process that can't run any more is ended by another one; all others aren't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

WATCHED = """
import ctypes, sys, time
from pathlib import Path
from embedkit.utils import watchdog
watchdog._MIN_SECONDS = 2
with watchdog.ended_when_stuck(0.1, Path(sys.argv[1])):
    Path(sys.argv[2]).touch()
    {work}
print("ended")
"""
STUCK = "ctypes.PyDLL(None).sleep(100)"  # holds the interpreter's lock
BUSY = "end = time.monotonic() + 6\n    while time.monotonic() < end: sum(range(1000))"


def start(tmp_path, work):
    command = [sys.executable, "-c", WATCHED.format(work=work), tmp_path / "mark", tmp_path / "on"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (tmp_path / "on").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def test_a_process_that_is_stuck_is_ended(tmp_path):
    process = start(tmp_path, STUCK)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert messages.startswith("embedkit: error: decoding an image has kept the whole process")
    assert messages.count("\n") == 1
    assert (tmp_path / "mark").exists()


def test_a_busy_process_is_not(tmp_path):
    output, messages = start(tmp_path, BUSY).communicate(timeout=100)
    assert (output, messages) == ("ended\n", "")
    assert not (tmp_path / "mark").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_process_that_is_stopped_is_not(tmp_path):
    process = start(tmp_path, "time.sleep(3)")
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    output, messages = process.communicate(timeout=100)
    assert (output, messages) == ("ended\n", "")


def test_it_ends_with_what_it_watches(tmp_path):
    process = start(tmp_path, "time.sleep(100)")
    process.kill()
    _, messages = process.communicate(timeout=60)  # the other process has stderr open too
    assert messages == ""
