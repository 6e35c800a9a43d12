"""Files of an index: written atomically, and verified by hash."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedkit.errors import IndexCorruptError, IndexFileError
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

    from embedkit.index.manifest import FileEntry

__all__ = [
    "HashingFile",
    "check_size",
    "checked_file",
    "writing_errors",
]


class HashingFile:
    """A new file that is hashed while it is written, and synced when it is closed.

    Attributes:
        nbytes: How much was written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._digest = hashlib.sha256()
        self.nbytes = 0

    def __enter__(self) -> HashingFile:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, data: bytes) -> int:
        """Writes ``data``; gives its length, as faiss asks for it."""
        self._digest.update(data)
        self.nbytes += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of what was written."""
        return self._digest.hexdigest()


@contextmanager
def checked_file(folder: Path, entry: FileEntry) -> Iterator[BufferedReader]:
    """A file of an index, open at its start, once its hash is found right.

    Args:
        folder: The index.
        entry: What its manifest says of the file.

    Raises:
        IndexCorruptError: It isn't the file that was written.
    """
    with _opened(folder / entry.name) as file:
        with Stage(f"checking {entry.name}"):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256:
            raise _other_file(folder / entry.name)
        file.seek(0)
        yield file


def check_size(folder: Path, entry: FileEntry) -> None:
    """Checks only that a file exists and has the recorded size.

    Raises:
        IndexCorruptError: It isn't.
    """
    with _opened(folder / entry.name) as file:
        if entry.nbytes is not None and os.fstat(file.fileno()).st_size != entry.nbytes:
            raise _other_file(folder / entry.name)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise IndexCorruptError(f"{path}: can't be read: {exc.strerror or exc}") from exc


def _other_file(path: Path) -> IndexCorruptError:
    return IndexCorruptError(
        f"{path}: isn't the file that was written (SHA-256); build the index again"
    )


@contextmanager
def writing_errors(path: Path | str) -> Iterator[None]:
    """Maps the system's errors while something is written."""
    try:
        yield
    except OSError as exc:
        raise IndexFileError(f"{path}: can't be written: {exc.strerror or exc}") from exc
