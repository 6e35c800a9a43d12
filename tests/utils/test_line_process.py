"""Worker processes: answers in order, crashes, starts that fail, and where they import from."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from embedkit.utils.line_process import CrashedError, LineProcess, NotStartedError

ECHO = """
import os, sys
from contextlib import contextmanager
from embedkit.utils.line_process import answer_lines

@contextmanager
def begin(settings):
    print("this isn't an answer")
    def answer(message):
        if message == "crash":
            os.abort()
        return [settings, message]
    yield answer

if __name__ == "__main__":
    answer_lines(begin)
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "echo_lines.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return "echo_lines"


def test_answers_to_messages(echo):
    process = LineProcess(echo, {"a": 1})
    assert process.ask("grün\n\udc80") == [{"a": 1}, "grün\n\udc80"]
    assert process.ask([1.25, None]) == [{"a": 1}, [1.25, None]]
    process.end()


def test_a_crash_is_told_and_the_next_message_goes_to_a_new_process(echo):
    process = LineProcess(echo, {})
    with pytest.raises(CrashedError, match="signal 6"):
        process.ask("crash")
    assert process.ask("again") == [{}, "again"]
    process.end()


def test_a_module_that_is_not_there(echo):
    process = LineProcess("no_such_module_here", {})
    with pytest.raises(NotStartedError, match="exit code 1"):
        process.ask(1)
    process.end()


def test_a_killed_process_answers_no_more(echo):
    process = LineProcess(echo, {})
    process.start()
    process.kill()
    with pytest.raises(CancelledError):
        process.ask(1)
    process.end()


def test_nothing_is_imported_from_the_current_folder(echo, tmp_path, monkeypatch):
    for name in ("json", "numpy", "cv2", "contextlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    for module, settings in (
        (echo, {}),
        (
            "embedkit.dedup.verification.comparing_process",
            {"policies": [], "processes": 1, "timeout": 60},
        ),
    ):
        process = LineProcess(module, settings)
        process.start()
        process.end()
    assert not Path(tmp_path, "run").exists()
    assert os.getcwd() == str(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="not on Windows")
def test_an_interrupt_is_the_parents_own(echo, capfd):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process = LineProcess(echo, {})
    pid = process._process.pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)  # while it starts
    process.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert process.ask(1) == [{}, 1]
    assert process._process.pid == pid
    process.end()
    assert "Traceback" not in capfd.readouterr().err
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_system_that_starts_no_process(echo, monkeypatch):
    def refused(*args, **settings):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    process = LineProcess(echo, {})
    assert process.ask(1) == [{}, 1]
    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(NotStartedError, match="temporarily unavailable"):
        LineProcess(echo, {})
    for message in ("crash", 1):
        with pytest.raises(NotStartedError, match="temporarily unavailable"):
            process.ask(message)
    process.end()
