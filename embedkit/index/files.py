"""The folder of an index: it appears whole or not at all, and its files are what was written."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from embedkit.errors import IndexCorruptError, IndexFileError
from embedkit.index.manifest import MANIFEST
from embedkit.store.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HashingFile", "checked_file", "faiss_errors", "new_folder", "refuse_existing"]

_READ_BYTES = 4 * 2**20


class HashingFile:
    """A new file that is hashed while it is written, and synced when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._digest = hashlib.sha256()

    def __enter__(self) -> HashingFile:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, data: bytes) -> int:
        """Writes ``data``; gives its length, as faiss asks for it."""
        self._digest.update(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of what was written."""
        return self._digest.hexdigest()


@contextmanager
def checked_file(path: Path, digests: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """A file of an index, open at its start, once its hash is found right.

    Args:
        path: The file.
        digests: File name to SHA-256 (hex).

    Raises:
        IndexCorruptError: It isn't the file that was written.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
            if digest.hexdigest() != digests.get(path.name):
                raise IndexCorruptError(
                    f"{path}: isn't the file that was written (SHA-256); build the index again"
                )
            file.seek(0)
            yield file
    except OSError as exc:
        raise IndexCorruptError(f"{path}: can't be read: {exc.strerror or exc}") from exc


@contextmanager
def faiss_errors(path: Path) -> Iterator[None]:
    """Maps what faiss raises to embedkit's errors."""
    try:
        yield
    except MemoryError as exc:
        raise IndexFileError(f"{path}: not enough memory for the index") from exc
    except RuntimeError as exc:
        told = " ".join(str(exc).split())
        raise IndexCorruptError(f"{path}: faiss says: {told}") from exc


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Refuses a place that is taken; ``overwrite`` allows an index or an empty folder there.

    Raises:
        IndexFileError: It is taken.
    """
    if not output.exists():
        return
    if not overwrite:
        raise IndexFileError(f"{output}: exists already; --overwrite replaces it")
    replaceable = output.is_dir() and ((output / MANIFEST).exists() or not any(output.iterdir()))
    if not replaceable:
        raise IndexFileError(f"{output}: is no index, so it is not replaced; choose another name")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its name, durably, if the block ends without error.

    Raises:
        IndexFileError: It can't be written; no trace of it stays.
    """
    folder = None
    try:
        name = f"{output.name}."
        folder = Path(tempfile.mkdtemp(prefix=name, suffix=".tmp", dir=output.absolute().parent))
        folder.chmod(0o755)  # a temporary folder is for its owner alone
        yield folder
        _replace(output, folder)
    except OSError as exc:
        raise IndexFileError(f"{output}: can't be written: {exc.strerror or exc}") from exc
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _replace(output: Path, folder: Path) -> None:
    """A folder can't be renamed over another one, so the old one steps aside first."""
    sync_folder(folder)
    old = folder.with_suffix(".old")
    if output.exists():
        output.rename(old)
    folder.rename(output)
    sync_folder(output.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)
