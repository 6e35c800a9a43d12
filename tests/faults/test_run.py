"""A slice of the disturbed jobs; ``scripts/test-faults`` runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("run.py")
FAST = (
    "kill_states merge", "random_kills search 3 1", "io_errors apply broken 9",
    "io_errors extract unreadable 9", "power_loss apply 9 1", "surroundings find removed 9",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layer needs /proc")


def run(folder, *cases):
    return subprocess.run(
        [sys.executable, DRIVER, folder, *cases],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_nothing_is_lost(tmp_path):
    done = run(tmp_path, *FAST)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    for case, line in zip(FAST, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{case}: ")


def test_a_case_that_fails_is_named(tmp_path):
    done = run(tmp_path, "nothing at all")
    assert done.returncode == 1
    assert done.stdout.startswith("nothing at all: FAILED: ")
