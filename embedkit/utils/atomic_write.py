"""Writes files atomically: a file appears complete or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from glob import escape
from typing import IO, TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.utils.urls import refuse_url

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "RememberingFile",
    "atomic_file",
    "atomic_folder",
    "commit_bytes",
    "remove_left_behind",
    "sync_folder",
]

_FILE, _FOLDER, _REPLACED = ".tmp", ".new", "replaced"


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
    refuse_url(path)
    where = folder or path.parent
    try:
        remove_left_behind(path, where)
        with _claimed(path, where) as (file, temporary):
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


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A folder to fill that gets its name only when the block ends without an error.

    A folder can't be renamed over another one, so an old one steps aside first. A run that is
    killed between these two steps leaves it where `remove_left_behind` finds it and puts it back.

    Args:
        path: The name; a folder that has it already is replaced, a file never is.
        overwrite: Whether a folder that is there at the end, and isn't empty, is replaced.

    Raises:
        OSError: It can't be written; no trace of it stays, and an old folder is as it was.
        StoreError: The name is a URL.
    """
    refuse_url(path)
    where = path.absolute().parent
    where.mkdir(parents=True, exist_ok=True)
    remove_left_behind(path, where)
    with _claimed(path, where) as (_, mark):
        temporary = mark.with_suffix(_FOLDER)
        new, old = temporary / "new", temporary / _REPLACED
        try:
            new.mkdir(parents=True)
            yield new
            sync_folder(new)
            if overwrite and path.is_dir():
                sync_folder(where)  # the folder where the old one steps aside must outlast it
                path.replace(old)
            new.replace(path)
            sync_folder(where)
        finally:
            _put_back(temporary, path)
            mark.unlink(missing_ok=True)


def remove_left_behind(path: Path, folder: Path | None = None) -> None:
    """Removes what killed processes left while they wrote ``path``.

    Who writes holds a lock on its temporary file, which ends with the process.

    Args:
        path: The file or folder that they wrote.
        folder: Where their temporary files lie; None is the folder of ``path``.
    """
    where = folder or path.absolute().parent
    names = f".{escape(path.name[:200])}.{'[0-9a-f]' * 8}"
    for temporary in where.glob(f"{names}{_FOLDER}"):
        if not temporary.with_suffix(_FILE).exists():  # its mark was lost with the power
            _put_back(temporary, path)
    for mark in where.glob(f"{names}{_FILE}"):
        with suppress(FileNotFoundError), mark.open("rb") as file:
            if _lock(file):
                _put_back(mark.with_suffix(_FOLDER), path)
                mark.unlink()


@contextmanager
def _claimed(path: Path, where: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new temporary file for ``path``, locked for as long as it is open."""
    while True:
        name = f".{path.name[:200]}.{secrets.token_hex(4)}{_FILE}"  # nobody else's file has it
        with (where / name).open("x+b") as file:
            if _lock(file) and os.fstat(file.fileno()).st_nlink:  # else it was taken for a dead one
                yield file, where / name
                return


def _put_back(temporary: Path, path: Path) -> None:
    """Removes a temporary folder; what it replaced gets its name back if nothing else has it."""
    if (temporary / _REPLACED).exists() and not path.exists():
        (temporary / _REPLACED).replace(path)
    shutil.rmtree(temporary, ignore_errors=True)


def _lock(file: IO[bytes]) -> bool:
    """Locks a file that nobody else has locked; where there are no such locks, it is ours alone."""
    if fcntl is None:
        return file.writable()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return file.writable()
    return True


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
