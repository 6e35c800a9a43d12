"""Files that appear whole or not at all, and that tell when one of their bits was changed."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "SEAL_BYTES",
    "RememberingFile",
    "atomic_file",
    "commit_bytes",
    "read_seal",
    "seal",
    "sync_folder",
]

SEAL_BYTES = 512  # the smallest HDF5 user block
_MAGIC = b"embedkit store\nsha256 "
_READ_BYTES = 4 * 2**20


def seal(file: IO[bytes]) -> None:
    """Writes the SHA-256 of all that follows the user block into the user block.

    Args:
        file: Readable and writable, holding an HDF5 file with a user block of ``SEAL_BYTES``.
    """
    line = _MAGIC + _digest_after_seal(file).encode("ascii") + b"\n"
    file.seek(0)
    file.write(line.ljust(SEAL_BYTES, b"\0"))


def read_seal(file: IO[bytes]) -> tuple[bytes, bytes]:
    """The user block as it is, and as it would be if no bit of the file had changed."""
    file.seek(0)
    found = file.read(SEAL_BYTES)
    line = _MAGIC + _digest_after_seal(file).encode("ascii") + b"\n"
    return found, line.ljust(SEAL_BYTES, b"\0")


def _digest_after_seal(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(SEAL_BYTES)
    while chunk := file.read(_READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def commit_bytes(path: Path, data: bytes | memoryview) -> None:
    """Makes ``path`` hold ``data``, durably: after a crash it is the old file or the new one."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write (and read) that gets its name only when the block ends without an error.

    Raises:
        StoreError: The disk is full, or the file can't be written; no trace of it stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{path}: can't be written: {exc.strerror or exc}") from exc
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RememberingFile(io.RawIOBase):
    """A file for HDF5 to write to, which keeps the first error for ``check``.

    HDF5 aborts the process when its own driver can't write at the end (a full disk); so its
    writes always seem to succeed here, and the error is raised where it can be handled.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first error that a write met."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Writes, unless an earlier write failed."""
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as exc:
                self._error = exc
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Sets the size, unless an earlier write failed."""
        if self._error is None:
            try:
                return self._file.truncate(size)
            except OSError as exc:
                self._error = exc
        return size or 0

    def readinto(self, buffer: Any) -> int:
        """Reads into ``buffer``; what could not be written reads as zeros."""
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to ``offset``."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

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
