"""Ends this process where a codec holds the interpreter's lock (GIL) and doesn't return.

Then no thread of Python runs, no signal handler either, and only another process can act. That
process runs this file; it gets a byte every second, and kills this one if none comes for long.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ended_when_stuck"]

_MIN_SECONDS = 60.0
_TIMES = 10  # several large images may be decoded one after the other under the lock


@contextmanager
def ended_when_stuck(image_seconds: float, mark: Path) -> Iterator[None]:
    """Ends this process by SIGKILL, with one line on stderr, if no thread of it can run.

    It has to stand still for ten times the limit of an image, and for a minute at least; while the
    process itself is stopped, as by Ctrl-Z, that doesn't count. Does nothing on Windows.

    Args:
        image_seconds: Seconds that the decoding of an image may take; 0 is no limit.
        mark: A file that is made then, if its folder exists.
    """
    if not image_seconds or os.name != "posix":
        yield
        return
    seconds = max(_TIMES * image_seconds, _MIN_SECONDS)
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds), str(mark)]
    ended = threading.Event()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        beat = threading.Thread(target=_beat, args=(process.stdin, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            with suppress(BrokenPipeError):
                process.stdin.close()


def _beat(pipe: IO[bytes], ended: threading.Event) -> None:
    with suppress(BrokenPipeError):  # somebody killed the other process
        while not ended.wait(1):
            pipe.write(b".")
            pipe.flush()


def _watch(pid: int, seconds: float, mark: Path) -> None:
    """Waits until the process ends, or has to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it is the other process that ends by them
    heard, ended = threading.Event(), threading.Event()
    threading.Thread(target=_listen, args=(heard, ended), daemon=True).start()
    silent = 0  # in steps, so that a pause of the whole machine counts little
    while not ended.is_set():
        silent = 0 if heard.wait(1) or _is_stopped(pid) else silent + 1
        heard.clear()
        if silent > seconds and os.getppid() == pid:
            _end(pid, seconds, mark)
            return


def _listen(heard: threading.Event, ended: threading.Event) -> None:
    while os.read(0, 1):
        heard.set()
    ended.set()
    heard.set()


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger; False where that can't be told."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in {"T", "t"}


def _end(pid: int, seconds: float, mark: Path) -> None:
    way_out = "embed on Linux, where images can be decoded in processes of their own"
    if hasattr(os, "memfd_create"):
        way_out = "run the same command again: it decodes in processes, and only that image fails"
    with suppress(OSError):
        mark.touch()
    message = (
        f"embedkit: error: decoding an image has kept the whole process from running for "
        f"{seconds:g} s, so it was ended; what was saved is kept; {way_out}\n"
    )
    os.write(2, message.encode())
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
