"""The rows of one or more compatible stores as one sequence."""

from __future__ import annotations

import posixpath
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.errors import (
    IndexFileError,
    IndexMismatchError,
    MissingExtraError,
    StoreError,
    StoreMismatchError,
)
from embedkit.store.object_cache import address_of, find
from embedkit.store.store import EmbeddingStore, has_rows_of
from embedkit.utils.urls import object_url
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.index.manifest import StoreEntry
    from embedkit.store.format import StoreMeta
    from embedkit.store.reader import ShardFile

__all__ = ["DISTINCT_IDS", "RowOrder", "StoreRows", "find_store", "locate_store"]

DISTINCT_IDS = (
    "the images of an index need distinct ids: extract one of the sources again with a prefix "
    "(`embedkit extract --prefix NAME`), or merge the stores first and keep one row per id"
)
"""What to do about stores that have an id twice."""

_DENSE = 8  # ids are read as a block if at least one in this many is needed


class RowOrder:
    """Which row of the stores lies at which position of an index.

    Args:
        count: How many positions there are.
        rows: ``(count,)`` int64, the rows; None where they are the positions themselves.
        first: The position of row 0, where ``rows`` is None.
    """

    def __init__(
        self, count: int, rows: NDArray[np.int64] | None = None, *, first: int = 0
    ) -> None:
        self._count, self._rows, self._first = count, rows, first

    def __len__(self) -> int:
        return self._count

    @property
    def is_plain(self) -> bool:
        """Whether rows and positions are the same."""
        return self._rows is None

    def span(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at the positions from ``start`` to ``stop``."""
        if self._rows is None:
            return np.arange(start - self._first, stop - self._first)
        return np.array(self._rows[start:stop])

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at some positions, in the positions' shape."""
        return positions - self._first if self._rows is None else self._rows[positions]


class StoreRows:
    """The rows of some stores, one after the other; a context manager.

    Attributes:
        stores: The stores, open.
        dim: D.
        dtype: float16 or float32.
    """

    def __init__(self, stores: Sequence[EmbeddingStore]) -> None:
        self.stores = tuple(stores)
        self.dim = stores[0].meta.feature_dim
        self.dtype = np.dtype(stores[0].meta.dtype)
        self._starts = np.cumsum([0, *map(len, stores)])
        self._lock = threading.Lock()  # a store of many shards keeps only some of them open

    @classmethod
    def open(cls, paths: Sequence[str | os.PathLike[str]]) -> StoreRows:
        """Opens stores.

        Raises:
            StoreMismatchError: Two stores have different embedding settings.
            StoreError: One can't be read.
            ValueError: There is none.
        """
        if not paths:
            raise ValueError("nothing to index: give one store or more")
        with ExitStack() as stack:
            stores = [stack.enter_context(EmbeddingStore.open(path)) for path in paths]
            for store in stores[1:]:
                if differences := stores[0].meta.differences(store.meta):
                    raise StoreMismatchError(str(store.path), differences)
            stack.pop_all()
        return cls(stores)

    @classmethod
    def reopen(cls, entries: Sequence[StoreEntry], folder: Path) -> StoreRows:
        """Opens the stores that an index was built from.

        Args:
            entries: The store entries of the manifest.
            folder: The index folder, for stores that were moved together with it.

        Raises:
            IndexFileError: A store is missing or can't be read.
            IndexMismatchError: A store has changed.
        """
        with ExitStack() as stack:
            stores = []
            for entry in entries:
                path = find_store(entry, folder)
                if path is None:
                    raise _missing(entry, folder)
                stores.append(stack.enter_context(EmbeddingStore.open(path)))
            stack.pop_all()
        return cls(stores)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def meta(self) -> StoreMeta:
        """How the rows were embedded: the first store's, with the roots of all."""
        roots = dict.fromkeys(root for store in self.stores for root in store.meta.roots)
        return replace(self.stores[0].meta, roots=list(roots))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stores."""
        for store in self.stores:
            store.close()

    @property
    def only_shard(self) -> ShardFile | None:
        """The file, if there is only one."""
        alone = len(self.stores) == 1 and len(self.stores[0].shards) == 1
        return self.stores[0].shard(0) if alone else None

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Some rows, ``(n, D)``, read from the files and checked.

        Raises:
            StoreError: A value isn't finite.
        """
        out = np.empty((len(rows), self.dim), self.dtype)
        for store, mine, inside in self._split(rows):
            out[mine] = store.take(inside, mapped=False)
        bad = first_not_finite(out)
        if bad is not None:
            store, _, inside = next(self._split(rows[bad : bad + 1]))
            name = store.ids[int(inside[0])]
            raise StoreError(f"{store.path}: the embedding of {name} isn't finite")
        return out

    def take(self, rows: NDArray[np.int64], out: NDArray[np.floating]) -> None:
        """Copies some rows from the memory maps to ``out``, ``(n, D)``; from any thread.

        Raises:
            StoreCorruptError: The checksum of some of the rows is wrong.
        """
        if (shard := self.only_shard) is not None:
            shard.check(rows)
            np.take(shard.embeddings, rows, axis=0, out=out, mode="clip")
            return
        with self._lock:
            for store, mine, inside in self._split(rows):
                out[mine] = store.take(inside)

    def hashes(self) -> NDArray[np.uint64]:
        """The first 8 bytes of the SHA-256 of each row's image, ``(N,)``."""
        parts = [
            np.ascontiguousarray(store.shard(number).image_column("content_hash", 0, rows)[:, :8])
            for store in self.stores
            for number, rows in enumerate(shard.embedded for shard in store.shards)
        ]
        return np.concatenate(parts).view("<u8").reshape(-1)

    def ids(self, rows: NDArray[np.int64]) -> list[bytes]:
        """The ids of some rows, as stored; quick for rows that are in order."""
        names: list[bytes] = []
        cuts = np.flatnonzero((np.diff(rows) < 1) | (np.diff(rows) > _DENSE)) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
            first, last = int(rows[start]), int(rows[stop - 1])
            span = self._span(first, last + 1)
            names += [span[row - first] for row in rows[start:stop].tolist()]
        return names

    def _span(self, first: int, stop: int) -> list[bytes]:
        names: list[bytes] = []
        for store, begin in zip(self.stores, self._starts.tolist(), strict=False):
            lower, upper = max(first - begin, 0), min(stop - begin, len(store))
            if lower < upper:
                found = store.ids[lower:upper]
                names += [name.encode("utf-8", "surrogateescape") for name in found]
        return names

    def _split(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[EmbeddingStore, NDArray[np.int64], NDArray[np.int64]]]:
        """For each store: which of ``rows`` are its own, and where they lie in it."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            mine = np.flatnonzero(numbers == number)
            yield self.stores[number], mine, rows[mine] - self._starts[number]


def _places(entry: StoreEntry, folder: Path) -> list[Path]:
    places = []
    for name in dict.fromkeys((entry.path, _beside(entry, folder))):
        with suppress(StoreError, MissingExtraError):  # a storage that can't be reached now
            places.append(find(name))
    return [path for path in places if path is not None and path.exists()]


def _beside(entry: StoreEntry, folder: Path) -> str:
    """Where a store is that was moved together with its index; for an index at a URL, a URL."""
    if object_url(entry.relative):
        return entry.relative
    url = address_of(folder)
    if url is None:
        return str(folder.absolute().parent / entry.relative)
    scheme, _, place = url.partition("://")
    beside = posixpath.join(posixpath.dirname(place), entry.relative)
    return f"{scheme}://{posixpath.normpath(beside)}"


def _missing(entry: StoreEntry, folder: Path) -> IndexFileError:
    find(entry.path)  # says why it can't be reached, if that is so
    return IndexFileError(
        f"{folder}: needs the embeddings of its store {entry.path}, which isn't there; put the "
        "store back, or build the index again"
    )


def locate_store(entry: StoreEntry, folder: Path) -> Path:
    """Where a store of an index is now, changed or not.

    Raises:
        IndexFileError: It is gone.
    """
    try:
        found = find_store(entry, folder)
    except IndexMismatchError:
        found = _places(entry, folder)[0]
    if found is None:
        raise _missing(entry, folder)
    return found


def find_store(entry: StoreEntry, folder: Path) -> Path | None:
    """Where a store of an index is now; None if it is gone.

    Args:
        entry: The store, from the manifest.
        folder: The index folder, for a store that was moved together with it.

    Raises:
        IndexMismatchError: There is another store in its place: it was made anew or changed.
    """
    places = _places(entry, folder)
    for path in places:
        try:
            if has_rows_of(path, entry.fingerprint):
                return path
        except (OSError, StoreError):
            continue  # not the store, nor any other
    if not places:
        return None
    raise IndexMismatchError(
        f"{folder}: its store {places[0]} has changed since; bring the index up to date with "
        "`embedkit index update`, or build it again"
    )
