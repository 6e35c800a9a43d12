"""``EmbeddingStore``: one shard file, or a folder of shards with a manifest."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError, StoreMismatchError
from embedkit.store.annotations import common_annotations, kind_of
from embedkit.store.detect import kind_of_path, wrong_kind
from embedkit.store.format import COLUMN_SHAPES, StoreCounts
from embedkit.store.lazy_views import EmbeddingsView, IdsView, row_numbers
from embedkit.store.manifest import MANIFEST, ShardEntry, read_manifest
from embedkit.store.object_cache import address_of, cached, find, local_files
from embedkit.store.reader import ShardFile
from embedkit.store.seal import SEAL_BYTES
from embedkit.store.tables import columns_of, store_html
from embedkit.tabular import to_pandas, to_polars
from embedkit.types import EmbeddingBatch
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.urls import display_name

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    import polars as pl
    from numpy.typing import DTypeLike, NDArray

    from embedkit.store.format import RowBlock
    from embedkit.store.structure import ShardStructure
    from embedkit.types import AnnotationKind, Head, ImageFailure

__all__ = ["EmbeddingStore", "fingerprint_of", "has_rows_of"]

_OPEN_SHARDS = 32  # at most, and fewer where few files may be open
_OTHER_FILES, _FILES_PER_SHARD, _STORES = 40, 3, 3  # what else a command has open
_ROWS_AT_ONCE = 16384  # thumbnails that are read before they are put into their places: 16 MiB
_NO_STORES = {"index", "images"}  # folders that have a manifest of that name, too


class EmbeddingStore:
    """Embeddings of a corpus with ids, image facts, failures and the head; read-only.

    Use it as a context manager, or ``close`` it. It reads like an array of N rows: ``store[0]``,
    ``store["photos/cat.jpg"]``, ``store[-5:]``, ``store[["a.jpg", "b.jpg"]]``, ``store[mask]``;
    ``"photos/cat.jpg" in store`` looks for an id.

    Args:
        path: A shard file (``photos.h5``) or a folder with ``manifest.json``; or the URL of one,
            such as ``s3://bucket/emb``: each file of it is downloaded when it is first used.

    Attributes:
        path: The file or folder; of a URL the copy in embedkit's cache.
        meta: How the embeddings were computed.
        counts: Embedded, failed, skipped, found.
        shards: The shards' entries; ``sha256`` is empty for a single file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens the store.

        Raises:
            StoreError: There is nothing at ``path``.
            StoreFormatError: It is no embedkit store, or of a newer format.
            StoreCorruptError: Its files are inconsistent.
        """
        found = find(path)
        if found is None:
            raise StoreError(f"{display_name(path)}: no such file, folder or bucket")
        self.path = found
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        self._structures: dict[int, ShardStructure] = {}  # outlive a shard's being open
        self._rows_by_hash: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None
        if self.path.is_dir():
            if not (self.path / MANIFEST).is_file() or kind_of_path(self.path) in _NO_STORES:
                raise StoreFormatError(wrong_kind(self.path, "store"))
            self._folder = self.path
            self.meta, entries = read_manifest(self.path)
        else:
            self._folder = self.path.parent
            self._open[0] = shard = ShardFile(self.path)
            self._structures[0] = shard.structure
            self.meta, entries = shard.meta, [_only_entry(shard)]
        self._fingerprint = fingerprint_of(self.path)
        self.shards = tuple(entries)
        self._starts = np.cumsum([0, *(entry.embedded for entry in entries)])
        self.counts = sum((entry.counts for entry in entries), StoreCounts(0, 0, 0))
        if differences := self.meta.differences(self.shard(0).meta):
            self.close()
            raise StoreMismatchError(str(self.path), differences)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> EmbeddingStore:
        """Opens a store for reading; the same as ``EmbeddingStore(path)``."""
        return cls(path)

    def __repr__(self) -> str:
        failed = f", {self.counts.failed:,} failed" if self.counts.failed else ""
        shards = f" in {len(self.shards):,} shards" if self.path.is_dir() else ""
        return (
            f"<EmbeddingStore {self.address!r}: {len(self):,} images x {self.meta.feature_dim} "
            f"{self.meta.dtype}{shards}, {self.meta.backbone}{failed}>"
        )

    def _repr_html_(self) -> str:
        return store_html(self)

    def __len__(self) -> int:
        return self.counts.embedded

    def __getitem__(self, index: Any) -> NDArray[np.floating]:
        """Embeddings, copied: ``(D,)`` of one image, ``(n, D)`` of several.

        Args:
            index: A row number (negative from the end), an id, a slice, a list or array of row
                numbers or of ids, or a boolean mask ``(N,)``.

        Raises:
            IndexError: There is no such row, or the mask has another length.
            KeyError: An id isn't in the store.
        """
        if isinstance(index, str):
            return self.get(index)
        if index is Ellipsis or isinstance(index, tuple):
            raise IndexError("a store is indexed by rows or ids; its embeddings also by columns")
        names = [] if isinstance(index, slice) else np.asarray(index).ravel().tolist()
        if names and all(isinstance(name, str) for name in names):
            return self.take(np.array([self.row_of(name) for name in names], np.int64))
        rows = row_numbers(index, len(self))
        return self.take(rows.reshape(-1)).reshape(*rows.shape, self.meta.feature_dim)

    def __iter__(self) -> Iterator[NDArray[np.floating]]:
        """The embeddings of all images, ``(D,)`` each, in order."""
        for batch in self.iter_batches():
            yield from batch.embeddings

    def __contains__(self, image_id: object) -> bool:
        """Whether an image of this id is in the store."""
        if not isinstance(image_id, str):
            return False
        try:
            self.row_of(image_id)
        except KeyError:
            return False
        return True

    def to_pandas(self, *, embeddings: bool = True) -> pd.DataFrame:
        """The store as a ``pandas.DataFrame``, one row per image, all in memory.

        The columns are ``id``, ``label`` (if there are labels), ``width``, ``height``, ``nbytes``,
        ``format``, ``content_hash`` (hex), ``phash``, those of `annotations` and
        ``embedding``. Missing values are None; pandas makes NaN of them, and so floats of integers.

        Args:
            embeddings: Whether to include the embeddings, ``(D,)`` each.

        Raises:
            MissingExtraError: pandas isn't installed.
        """
        return to_pandas(columns_of(self, embeddings=embeddings))

    def to_polars(self, *, embeddings: bool = True) -> pl.DataFrame:
        """The store as a ``polars.DataFrame``, with the columns of ``to_pandas``.

        Args:
            embeddings: Whether to include the embeddings, as arrays of D float32.

        Raises:
            MissingExtraError: polars isn't installed.
        """
        return to_polars(columns_of(self, embeddings=embeddings))

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every open shard."""
        while self._open:
            self._open.popitem()[1].close()

    @property
    def address(self) -> str:
        """The path as text, or the URL."""
        return address_of(self.path) or str(self.path)

    @plain_numbers
    def shard_file(self, number: int) -> Path:
        """The file of one shard."""
        entry, path = self.shards[number], self._folder / self.shards[number].name
        return cached(path, entry.sha256) if self.path.is_dir() else path

    def shard(self, number: int) -> ShardFile:
        """One shard, open; of many shards only some stay open."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        opened = ShardFile(self.shard_file(number), self._structures.get(number))
        if opened.counts != self.shards[number].counts:
            opened.close()
            raise StoreCorruptError(f"{opened.path}: its counts aren't those of the manifest")
        self._structures[number] = opened.structure
        self._open[number] = opened
        if len(self._open) > _most_open_shards():
            self._open.popitem(last=False)[1].close()
        return opened

    @property
    def structures(self) -> Iterator[ShardStructure]:
        """What each shard holds; a shard is opened for it once."""
        for number in range(len(self.shards)):
            yield self._structures.get(number) or self.shard(number).structure

    @property
    def shard_paths(self) -> list[Path]:
        """The files of the store, in order; those of a URL are all downloaded."""
        paths = [self._folder / shard.name for shard in self.shards]
        return local_files(paths, [one.sha256 for one in self.shards])

    @property
    def embeddings(self) -> EmbeddingsView:
        """``(N, D)`` array-like, memory-mapped; a block of rows is checked before its first use."""
        return EmbeddingsView(self)

    @property
    def ids(self) -> IdsView:
        """The N ids, read from disk on access."""
        return IdsView(self)

    @property
    def has_labels(self) -> bool:
        """Whether the source gave labels."""
        return any(shard.has_labels for shard in self.structures)

    @property
    def labels(self) -> list[str] | None:
        """The N labels (empty where an image has none), or None if the source gave none."""
        if not self.has_labels:
            return None
        shards = map(self.shard, range(len(self.shards)))
        return [_to_text(label) for shard in shards for label in shard.labels(0, len(shard))]

    @property
    def head(self) -> Head | None:
        """The backbone's classifier; ``meta.head_applies`` says whether it applies to the rows."""
        return self.shard(0).head()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of ``/images``."""
        shards = [shard.columns for shard in self.structures]
        return tuple(name for name in shards[0] if all(name in one for one in shards))

    @property
    def annotations(self) -> dict[str, AnnotationKind]:
        """The columns that ``annotate`` put in: name to kind, in the order of the names."""
        shards = [shard.annotations for shard in self.structures]
        return {name: kind_of(dtype) for name, dtype in common_annotations(shards).items()}

    def images(self, column: str) -> NDArray[Any]:
        """One column of ``/images``, one of `columns`, or one of `annotations`.

        Of annotations, a missing text is empty, a missing float NaN, a missing integer -2**63 and
        a missing boolean -1; the others are 1 (true) and 0.

        Raises:
            ValueError: There is no such column; older stores have no mtime and no frames.
        """
        known = (*self.columns, *self.annotations)
        if column not in known:
            raise ValueError(f"no image column {column!r}; there are {', '.join(known)}")
        parts = [
            self.shard(i).image_column(column, 0, self.shards[i].embedded)
            for i in range(len(self.shards))
        ]
        return np.concatenate(parts)

    def failures(self) -> Iterator[ImageFailure]:
        """The images that could not be embedded."""
        for number, entry in enumerate(self.shards):
            if entry.failed:
                yield from self.shard(number).failures()

    def blocks(self) -> Iterator[RowBlock]:
        """All rows with ids, labels and image facts, in blocks of bounded size."""
        for number in range(len(self.shards)):
            yield from self.shard(number).blocks()

    @plain_numbers
    def iter_batches(self, rows: int = 1024) -> Iterator[EmbeddingBatch]:
        """All rows in order, ``rows`` at a time (fewer at the end of a shard).

        Raises:
            ValueError: ``rows`` is less than 1.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        for number, entry in enumerate(self.shards):
            first = int(self._starts[number])
            for start in range(0, entry.embedded, rows):
                shard = self.shard(number)
                stop = min(start + rows, entry.embedded)
                ids = tuple(map(_to_text, shard.ids(start, stop)))
                yield EmbeddingBatch(first + start, ids, shard.read(np.arange(start, stop)))

    def to_numpy(self, dtype: DTypeLike | None = None) -> NDArray[np.floating]:
        """All embeddings in memory, ``(N, D)``, as stored or as ``dtype``."""
        out = np.empty((len(self), self.meta.feature_dim), dtype or self.meta.dtype)
        for batch in self.iter_batches(16384):
            out[batch.start : batch.start + len(batch.ids)] = batch.embeddings
        return out

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the seal (one file) or manifest (folder) that was opened."""
        return self._fingerprint

    def has_rows_of(self, fingerprint: str) -> bool:
        """Whether this is the store of a fingerprint, or was before its labels or columns."""
        return fingerprint in {self.fingerprint, *self.meta.same_rows_as}

    def take(self, rows: NDArray[np.int64], *, mapped: bool = True) -> NDArray[np.floating]:
        """The embeddings of some rows, in the given order.

        Args:
            rows: ``(n,)``, each from 0 to N - 1.
            mapped: Whether to copy from the memory map, which is faster for scattered rows, or to
                read from the file, which is faster for consecutive rows and needs no extra memory.

        Returns:
            ``(n, D)``, a new array.

        Raises:
            StoreCorruptError: The checksum of some of the rows is wrong.
        """
        out = np.empty((len(rows), self.meta.feature_dim), self.meta.dtype)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            mine = np.flatnonzero(numbers == number)
            shard, inside = self.shard(number), rows[mine] - self._starts[number]
            if mapped:
                shard.check(inside)
                out[mine] = shard.embeddings[inside]
            else:
                out[mine] = shard.read(inside)
        return out

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Small gray pictures of the whole images of some rows, in the given order.

        Only these are read. They aren't compared with a checksum; ``verify`` does that.

        Args:
            rows: ``(n,)``, each from 0 to N - 1, in any order; rows may be repeated.

        Returns:
            ``(n, 32, 32)``, luminance from 0 to 255; all zeros where an image has none.

        Raises:
            ValueError: A shard that has some of the rows has no thumbnails; all shards have some if
                ``thumbnail`` is one of `columns`.
            IndexError: There is no such row.
            StoreCorruptError: The file can't be read.
        """
        out = np.empty((len(rows), *COLUMN_SHAPES["thumbnail"]), np.uint8)
        order = np.argsort(rows, kind="stable")
        ascending = np.asarray(rows, np.int64)[order]
        if len(rows) and not 0 <= ascending[0] <= ascending[-1] < len(self):
            raise IndexError(f"rows {ascending[0]} to {ascending[-1]} of {len(self)}")
        ends = np.searchsorted(ascending, self._starts)
        for number in np.flatnonzero(np.diff(ends)).tolist():
            last = int(ends[number + 1])
            for first in range(int(ends[number]), last, _ROWS_AT_ONCE):
                part = slice(first, min(first + _ROWS_AT_ONCE, last))
                inside = ascending[part] - self._starts[number]
                out[order[part]] = self.shard(number).thumbnails(inside)
        return out

    def row_of(self, image_id: str) -> int:
        """The row of an id; the first one if the id occurs several times.

        Raises:
            KeyError: The id isn't in the store.
        """
        try:
            encoded = image_id.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self._no_image(image_id) from None
        hashes, rows = self._hashed_ids()
        key = _hash_id(encoded)
        for at in range(int(np.searchsorted(hashes, key)), len(hashes)):
            if hashes[at] != key:
                break
            shard, row = self.locate(int(rows[at]))
            if self.shard(shard).ids(row, row + 1)[0] == encoded:
                return int(rows[at])
        raise self._no_image(image_id)

    def _no_image(self, image_id: str) -> KeyError:
        like = f"; its ids are like {self.ids[0]!r}" if len(self) else ""
        return KeyError(f"no image {image_id!r} in {self.path}{like}")

    def get(self, image_id: str) -> NDArray[np.floating]:
        """The embedding of one image, ``(D,)``.

        Raises:
            KeyError: The id isn't in the store.
        """
        shard, row = self.locate(self.row_of(image_id))
        found: NDArray[np.floating] = self.shard(shard).read(np.array([row]))[0]
        return found

    def locate(self, row: int) -> tuple[int, int]:
        """The shard's number and the row inside it, for a row of the store.

        Raises:
            IndexError: There is no such row.
        """
        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        return number, at - int(self._starts[number])

    def _hashed_ids(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """64-bit hashes of all ids, sorted, and their rows: 16 bytes an image."""
        if self._rows_by_hash is None:
            hashes = np.empty(len(self), np.uint64)
            row = 0
            for number in range(len(self.shards)):
                for start in range(0, self.shards[number].embedded, 65536):
                    stop = min(start + 65536, self.shards[number].embedded)
                    for name in self.shard(number).ids(start, stop):
                        hashes[row] = _hash_id(name)
                        row += 1
            order = np.argsort(hashes, kind="stable")
            self._rows_by_hash = hashes[order], order
        return self._rows_by_hash


def fingerprint_of(path: Path) -> str:
    """``EmbeddingStore.fingerprint`` of a store that needn't be opened; reads little.

    Raises:
        OSError: It can't be read.
    """
    is_folder = path.is_dir()
    with (path / MANIFEST if is_folder else path).open("rb") as file:
        return hashlib.sha256(file.read(-1 if is_folder else SEAL_BYTES)).hexdigest()


def has_rows_of(path: Path, fingerprint: str) -> bool:
    """``EmbeddingStore.has_rows_of`` of a store that mostly needn't be opened.

    Raises:
        OSError: It can't be read.
        StoreError: It isn't a store.
    """
    if fingerprint_of(path) == fingerprint:
        return True
    with EmbeddingStore.open(path) as store:
        return store.has_rows_of(fingerprint)


def _most_open_shards() -> int:
    """How many shards of a store may stay open, by the limit on open files."""
    try:
        import resource
    except ImportError:  # Windows
        return _OPEN_SHARDS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _OPEN_SHARDS
    room = (limit - _OTHER_FILES) // (_FILES_PER_SHARD * _STORES)
    return max(1, min(_OPEN_SHARDS, room))


def _only_entry(shard: ShardFile) -> ShardEntry:
    counts = shard.counts
    return ShardEntry(shard.path.name, counts.embedded, counts.failed, counts.skipped, "")


def _to_text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _hash_id(name: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little"))
