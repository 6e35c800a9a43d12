"""A layer between Python and the disk: what a process is about to change is told, or fails.

Changes are what Python's audit events tell of (files opened for writing, renamed, removed, folders
made and removed), and fsyncs; on request each write too.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def watch_changes(folder: Path, before: Callable[[str, object], None]) -> None:
    """Calls ``before(what, path or descriptor)`` before each change of the disk below a folder.

    What it raises is raised by the change, which doesn't happen then. It lasts as long as the
    process.
    """
    inside, fsync = str(folder), os.fsync

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and inside in str(args[0]):
                before("open", args[0])
        elif event in _CHANGES and (inside in str(args[0]) or _is_relative(args)):
            before(event, args[0])

    def synced(handle: int) -> None:
        before("fsync", handle)
        fsync(handle)

    os.fsync = synced
    sys.addaudithook(hook)


def _is_relative(args: tuple) -> bool:
    """Whether a path is relative to an open folder, as those of ``shutil.rmtree`` are."""
    return any(isinstance(one, int) and one >= 0 for one in args[-1:])


def watch_writes(folder: Path, before: Callable[[str, object], None]) -> None:
    """Calls ``before("write", path)`` before each write that reaches the system, as above."""
    inside, write, really_open = str(folder), os.write, io.open

    class Raw(io.FileIO):
        def write(self, data) -> int:
            before("write", self.name)
            return super().write(data)

        def truncate(self, size=None) -> int:
            before("write", self.name)
            return super().truncate(size)

    def opening(file, mode="r", buffering=-1, *args, **kwargs):
        is_mine = not isinstance(file, int) and inside in str(file)
        if not is_mine or not {*mode} & {*"wxa+"} or buffering == 0:
            return really_open(file, mode, buffering, *args, **kwargs)
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        raw.mode  # noqa: B018
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *args, **kwargs)

    def writing(handle: int, data) -> int:
        if inside in path_of(handle):
            before("write", path_of(handle))
        return write(handle, data)

    io.open = builtins.open = opening
    os.write = writing


def watch_reads(folder: Path, before: Callable[[str, object], None]) -> None:
    """Calls ``before("read", path)`` before each read of a file below a folder, as above."""
    inside = str(folder)

    def watched(really: Callable[..., bytes]) -> Callable[..., bytes]:
        def reading(handle: int, *args) -> bytes:
            if inside in path_of(handle):
                before("read", path_of(handle))
            return really(handle, *args)

        return reading

    os.read, os.pread = watched(os.read), watched(os.pread)


def path_of(handle: int) -> str:
    """The path of an open file; empty if it has none."""
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


def fail_at(k: int, number: int = errno.EIO, *, lasting: bool = False) -> Callable[..., None]:
    """Raises a system error at the k-th change; with ``lasting`` at all that follow too.

    A full disk lasts: nothing can be written or made, but what is there can be opened, renamed and
    removed.
    """
    left, needs_room = [k], {"open", "write", "os.mkdir"}

    def before(what: str, path: object) -> None:
        left[0] -= 1
        if lasting:
            is_there = what == "open" and os.path.lexists(str(path))
            is_now = left[0] <= 0 and what in needs_room and not is_there
        else:
            is_now = left[0] == 0
        if is_now:
            raise OSError(number, os.strerror(number), str(path))

    return before


def fail_each(k: int) -> Callable[..., None]:
    """Raises an input/output error at each k-th change."""
    counted = itertools.count(1)

    def before(what: str, path: object) -> None:
        if next(counted) % k == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    return before
