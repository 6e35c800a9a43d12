"""Writes and reads the files in an index's folder; each change writes a new generation."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.errors import IndexCorruptError, IndexFileError, StoreCorruptError, StoreError
from embedkit.index.faiss_io import read_faiss, read_without_lists
from embedkit.index.faiss_types import faiss_errors
from embedkit.index.file_io import HashingFile, check_size, checked_file, writing_errors
from embedkit.index.id_table import IdTable
from embedkit.index.inverted_lists import map_lists
from embedkit.index.manifest import MANIFEST, FileEntry, IndexManifest
from embedkit.index.store_rows import RowOrder, find_store
from embedkit.index.vector_space import Space, Whitening
from embedkit.store.object_cache import cached
from embedkit.utils.atomic_write import commit_bytes, remove_left_behind, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import faiss
    from numpy.typing import NDArray

__all__ = [
    "Check",
    "ContentReader",
    "ContentWriter",
    "change_generation",
    "copy_into",
    "tidy",
    "write_excluded",
]

Check = Literal["full", "fast"]

_NAMES = {
    "index": ("index", ".faiss"),
    "ids": ("ids", ".bin"),
    "hashes": ("hashes", ".u8"),
    "rows": ("rows", ".i8"),
    "factors": ("factors", ".f4"),
    "whitening": ("whitening", ".f4"),
    "trained": ("trained", ".faiss"),
    "lists": ("lists", ".bin"),
    "removed": ("removed", ".i8"),
    "excluded": ("excluded", ".bin"),
}
_COPY_BYTES = 4 * 2**20


class ContentWriter:
    """Writes the files of one generation, next to those of the previous one.

    Attributes:
        folder: The index's folder.
        files: The generation's files so far, by what they are for.
    """

    def __init__(
        self,
        folder: Path,
        generation: int = 0,
        files: Mapping[str, FileEntry] | None = None,
        mark: str = "",
    ) -> None:
        """Prepares to write.

        Args:
            folder: The index's folder.
            generation: Its number.
            files: Files of the generation before that stay.
            mark: What the names hold in the place of the number, such as ``-1a2b3c4d``.
        """
        self.folder, self.files = folder, dict(files or {})
        self._mark = mark or (f"-{generation}" if generation else "")

    def path(self, role: str) -> Path:
        """Where this generation's file lies."""
        stem, suffix = _NAMES[role]
        return self.folder / f"{stem}{self._mark}{suffix}"

    def write(self, role: str, produce: Callable[[Callable[[bytes], int]], object]) -> None:
        """Writes a file.

        Args:
            role: The role of the file.
            produce: Called with the function that takes the bytes.
        """
        path = self.path(role)
        with HashingFile(path) as file:
            produce(file.write)
        self.files[role] = FileEntry(path.name, file.sha256, file.nbytes)

    def add_existing(self, role: str) -> None:
        """Registers a file that was already written to its place, and syncs it to disk."""
        path = self.path(role)
        with path.open("r+b") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.files[role] = FileEntry(path.name, digest, path.stat().st_size)


def copy_into(source: Path, write: Callable[[bytes], int]) -> None:
    """Hands all bytes of a file to ``write``."""
    with source.open("rb") as file:
        while chunk := file.read(_COPY_BYTES):
            write(chunk)


def write_excluded(writer: ContentWriter, ids: Iterable[str]) -> None:
    """Writes the ids that `ContentReader.excluded` reads."""
    encoded = [name.encode("utf-8", "surrogateescape") + b"\0" for name in sorted(ids)]
    writer.write("excluded", lambda write: write(b"".join(encoded)))


def change_generation(folder: Path, manifest: IndexManifest) -> None:
    """Switches an index atomically to ``manifest``, and removes files that it doesn't name.

    Raises:
        IndexFileError: The manifest can't be written; the index is unchanged.
    """
    try:
        with writing_errors(folder):
            sync_folder(folder)  # the manifest may not be on the disk before what it names
        commit_bytes(folder / MANIFEST, manifest.to_json())
    except StoreError as exc:
        raise IndexFileError(str(exc)) from exc
    tidy(folder, manifest)


def tidy(folder: Path, manifest: IndexManifest) -> None:
    """Removes the files of other generations, such as those that a killed process left."""
    remove_left_behind(folder / MANIFEST)
    kept = {entry.name for entry in manifest.files.values()}
    for stem, suffix in _NAMES.values():
        for path in [folder / f"{stem}{suffix}", *folder.glob(f"{stem}-*{suffix}")]:
            if path.name not in kept:
                path.unlink(missing_ok=True)


class ContentReader:
    """Reads the files of an index, each verified before use.

    Attributes:
        folder: The index's folder.
        manifest: Its manifest.
    """

    def __init__(self, folder: Path, manifest: IndexManifest, check: Check = "full") -> None:
        self.folder, self.manifest, self._check = folder, manifest, check

    def refuse_changed_stores(self) -> None:
        """Refuses an index whose stores were made anew or changed; one may be gone.

        Raises:
            IndexMismatchError: A store has changed.
        """
        for entry in self.manifest.stores:
            find_store(entry, self.folder)

    def checked(self, role: str) -> Path:
        """The path of a verified file.

        Raises:
            IndexCorruptError: It is missing or damaged.
        """
        entry = self._entry(role)
        try:
            cached(self.folder / entry.name, entry.sha256)
        except StoreCorruptError as exc:
            raise IndexCorruptError(str(exc)) from exc
        if self._check == "full":
            with checked_file(self.folder, entry):
                pass
        else:
            check_size(self.folder, entry)
        return self.folder / entry.name

    def content(self, role: str) -> bytes | None:
        """A small file, whole; None if the index has none of it."""
        if role not in self.manifest.files:
            return None
        return self.checked(role).read_bytes()

    def index(self, role: str = "index") -> faiss.Index:
        """The faiss index, in memory but for lists that stay on disk; or the ``trained`` one."""
        path = self.checked(role)
        nbytes = path.stat().st_size
        with path.open("rb") as file:
            if role != "index" or not self.manifest.on_disk:
                return read_faiss(file, path, nbytes)
            index = read_without_lists(file, path, nbytes)
        lists = self.checked("lists")
        with faiss_errors(lists):
            map_lists(index, lists)
        return index

    def array(self, role: str, dtype: str) -> NDArray[Any]:
        """A file of numbers, ``(n,)``, memory-mapped."""
        path = self.checked(role)
        size = path.stat().st_size
        if size % np.dtype(dtype).itemsize:
            raise IndexCorruptError(f"{path}: {size} bytes are no array of {dtype}")
        return np.memmap(path, dtype, "r") if size else np.empty(0, dtype)

    def space(self) -> Space:
        """The space in which the index compares."""
        manifest = self.manifest
        if "whitening" not in manifest.files:
            return Space(manifest.metric, manifest.dim)
        data = self.checked("whitening").read_bytes()
        return Space(manifest.metric, manifest.dim, Whitening.from_bytes(data, manifest.dim))

    def order(self) -> RowOrder:
        """Which row of the stores lies at which position."""
        if "rows" not in self.manifest.files:
            return RowOrder(self.manifest.count)
        rows = self.array("rows", "<i8")
        total = sum(entry.rows for entry in self.manifest.stores)
        if len(rows) != self.manifest.count or (rows < 0).any() or (rows >= total).any():
            raise IndexCorruptError(f"{self.folder}: rows and manifest don't fit together")
        return RowOrder(len(rows), rows)

    def factors(self, space: Space) -> NDArray[np.float32]:
        """The rows' factors, ``(N, space.num_factors)``."""
        count = self.manifest.count
        if not space.num_factors:
            return np.empty((count, 0), np.float32)
        factors = self.array("factors", "<f4")
        if len(factors) != count * space.num_factors:
            raise IndexCorruptError(f"{self.folder}: factors and manifest don't fit together")
        return factors.reshape(count, space.num_factors)

    def removed(self) -> NDArray[np.int64]:
        """The positions that were removed, ascending."""
        if "removed" not in self.manifest.files:
            return np.empty(0, np.int64)
        removed = np.array(self.array("removed", "<i8"))
        if len(removed) and not 0 <= removed.min() <= removed.max() < self.manifest.count:
            raise IndexCorruptError(f"{self.folder}: removed rows and manifest don't fit together")
        return removed

    def hashes(self) -> NDArray[np.uint64]:
        """The hash of each position's image, ``(N,)``, as `StoreRows.hashes`.

        Raises:
            IndexFileError: The index was built by an embedkit that recorded none.
            IndexCorruptError: The file is damaged.
        """
        if "hashes" not in self.manifest.files:
            raise IndexFileError(
                f"{self.folder}: has no record of its images' content, which an update compares; "
                "build the index again"
            )
        hashes = self.array("hashes", "<u8")
        if len(hashes) != self.manifest.count:
            raise IndexCorruptError(f"{self.folder}: hashes and manifest don't fit together")
        return hashes

    def excluded(self) -> set[str]:
        """The ids of images that were removed by the user, and that an update doesn't add."""
        if "excluded" in self.manifest.files:
            return set(IdTable(self.array("excluded", "u1")))
        names = IdTable(self.array("ids", "u1")).names(self.removed()[:, None])
        return {name for row in names for name in row}

    def _entry(self, role: str) -> FileEntry:
        try:
            return self.manifest.files[role]
        except KeyError:
            raise IndexCorruptError(f"{self.folder}: has no file of its {role}") from None
