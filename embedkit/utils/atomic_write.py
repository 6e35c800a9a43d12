"""Writes files atomically: a file appears complete or not at all."""

from __future__ import annotations

import io
import os
import secrets
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "RememberingFile",
    "atomic_file",
    "commit_bytes",
    "sync_folder",
]


def commit_bytes(path: Path, data: bytes | memoryview) -> None:
    """Makes ``path`` hold ``data``, durably: after a crash it is the old file or the new one."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, folder: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write (and read) that gets its name only when the block ends without an error.

    Args:
        path: The name; what has it already is replaced.
        folder: Where the file lies until then, on the same disk; None is the folder of ``path``.

    Raises:
        StoreError: The disk is full, or the file can't be written; no trace of it stays.
    """
    name = f".{path.name[:200]}.{secrets.token_hex(4)}.tmp"  # nobody else's file has it
    temporary = (folder or path.parent) / name
    try:
        with temporary.open("x+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except OSError as exc:
        raise StoreError(f"{path}: can't be written: {exc.strerror or exc}") from exc


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RememberingFile(io.RawIOBase):
    """A file for HDF5 to write to, which keeps the first error for ``check``.

    HDF5 aborts the process when its own driver can't write at the end (a full disk); so all that
    it asks for seems to succeed here, and the error is raised where it can be handled.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None
        self._size = 0

    def check(self) -> None:
        """Raises the first error that was met."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self._error = exc

    def write(self, data: Any) -> int:
        """Writes, unless there was an error before."""
        if self._error is None:
            with self._remembering():
                self._file.write(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Sets the size, unless there was an error before."""
        self._size = size or 0
        if self._error is None:
            with self._remembering():
                self._file.truncate(size)
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Reads into ``buffer``; what could not be written reads as zeros."""
        view = memoryview(buffer).cast("B")
        data = b""
        if self._error is None:
            with self._remembering():  # reading writes what the file still held back
                data = self._file.read(len(view))
        view[:] = data.ljust(len(view), b"\0")
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to ``offset``, unless there was an error before."""
        if self._error is None:
            with self._remembering():  # so does moving
                return self._file.seek(offset, whence)
        return offset if whence == io.SEEK_SET else self._size

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell() if self._error is None else 0

    def flush(self) -> None:
        """Nothing is held back here; durability is ``atomic_file``'s."""

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True
