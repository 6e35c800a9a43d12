"""Standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["open_streams", "silence"]


def open_streams() -> None:
    """Gives this process the three standard streams, and lets them print any file name.

    A closed one becomes the null device. Without that, the next file opened takes its number, and
    what a library prints goes into that file. ``sys.stdin`` stays None where it was closed.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    sys.stdout = sys.stdout or _null_stream(1)
    sys.stderr = sys.stderr or _null_stream(2)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Drops what a stream still holds, and all that it gets from now on.

    Otherwise Python writes it at the end, fails again, and exits with another code.
    """
    with suppress(OSError, ValueError):  # a stream of a test or of a notebook has no number
        number = os.open(os.devnull, os.O_WRONLY)
        os.dup2(number, stream.fileno())
        os.close(number)


def _null_stream(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)
