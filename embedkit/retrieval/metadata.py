"""The metadata of the images of an index, read from its stores: rows by id, hashes, columns."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import IndexFileError, IndexMismatchError, StoreError
from embedkit.index.store_rows import StoreRows
from embedkit.retrieval.filters import NUMBERS, SELECTION, TEXTS, Filter
from embedkit.retrieval.selections import list_selections, read_selection
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.index import Index

__all__ = ["StoreMetadata", "column_pieces", "matching_rows"]

_PIECE = 65536  # rows


class StoreMetadata(StoreRows):
    """The rows of the stores behind an index, with their metadata; N rows in all.

    Attributes:
        follows_index: Whether the stores are all those that the index was built of, in its order,
            so that a mask of their rows can be given to the index.
    """

    def __init__(self, stores: Sequence[EmbeddingStore], index: Index) -> None:
        super().__init__(stores)
        known = index.fingerprints
        self.follows_index = len(stores) == len(known) and all(
            store.has_rows_of(one) for store, one in zip(stores, known, strict=True)
        )

    @classmethod
    def of_index(
        cls, index: Index, stores: Sequence[str | os.PathLike[str]] | None = None
    ) -> StoreMetadata | None:
        """Opens the stores of an index.

        Args:
            index: The index.
            stores: Paths of the stores that it was built of; None takes those that the index
                names, or if these aren't there as they were, ``photos.h5`` beside ``photos.index``,
                if it was embedded as the index was.

        Returns:
            The metadata; None if no store was given and none is found.

        Raises:
            StoreError: A store can't be read.
            IndexMismatchError: A given store was embedded with other settings than the index.
            ValueError: ``stores`` is empty.
        """
        if stores is not None:
            return cls(_open_all(index, stores), index)
        if index.fingerprints:
            with suppress(IndexFileError):  # missing, or changed since
                return cls(index.open_stores(), index)
        path = Path(index.path)
        beside = path.with_name(path.name.removesuffix(".index") + ".h5")
        if not beside.exists():
            return None
        try:
            return cls(_open_all(index, [beside]), index)
        except IndexMismatchError:  # another store of that name
            return None

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The first row of each of n ids, ``(n,)`` int64; -1 for an id that isn't there."""
        hashes, rows = self._hashed_ids
        if not len(hashes):
            return np.full(len(ids), -1)
        targets = _hash_all(ids)
        at = np.minimum(np.searchsorted(hashes, targets), len(hashes) - 1)
        return np.where(hashes[at] == targets, rows[at], -1)

    @cached_property
    def content_hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of the images' bytes, ``(N, 32)``."""
        pieces = [piece for store in self.stores for piece in column_pieces(store, "content_hash")]
        return np.concatenate(pieces) if pieces else np.empty((0, 32), np.uint8)

    def matching(self, filters: Sequence[Filter]) -> NDArray[np.bool_]:
        """Which rows meet all the filters, ``(N,)`` bool.

        Raises:
            StoreError: A filter is on labels, and no store has labels.
        """
        return matching_rows(self.stores, filters)

    @cached_property
    def _hashed_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """64-bit hashes of all ids, sorted, and their rows: 16 bytes an image.

        Python's own hashes of strings have a secret key, so nobody can make two ids agree.
        """
        pieces = [_hash_all(ids) for store in self.stores for ids in column_pieces(store, "path")]
        hashes = np.concatenate(pieces) if pieces else np.empty(0, np.int64)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order


def matching_rows(
    stores: Sequence[EmbeddingStore], filters: Sequence[str | Filter]
) -> NDArray[np.bool_]:
    """Which rows of some stores meet all the filters, ``(N,)`` bool.

    Args:
        stores: The stores, one after the other.
        filters: The filters, parsed or as a user writes them.

    Raises:
        StoreError: A filter is on a column that a store hasn't.
        ValueError: A text isn't a filter, or a column can't be compared so.
    """
    matches = np.ones(sum(map(len, stores)), bool)
    for one in (Filter.parse(text) if isinstance(text, str) else text for text in filters):
        if one.column == SELECTION:
            matches &= _selected(stores, one.value)
            continue
        if one.column == "label" and not any(store.has_labels for store in stores):
            raise StoreError(
                f"{stores[0].path}: has no labels to filter by; `embedkit label` puts them in"
            )
        start = 0
        for store in stores:
            checked = _for_store(one, store)
            for values in column_pieces(store, one.column):
                matches[start : start + len(values)] &= checked.passes(values)
                start += len(values)
    return matches


def _selected(stores: Sequence[EmbeddingStore], name: str) -> NDArray[np.bool_]:
    """Which rows a named selection has."""
    files = [read_selection(store.path, name) for store in stores]
    if not any(one.path.exists() for one in files):
        known = sorted({one.name for store in stores for one in list_selections(store.path)})
        there = f"there are {', '.join(known)}" if known else "`embedkit serve` makes selections"
        raise StoreError(f"{stores[0].path}: has no selection {name!r}; {there}")
    parts = []
    for store, one in zip(stores, files, strict=True):
        ids = frozenset(one.ids() if one.path.exists() else ())
        parts += [[name in ids for name in piece] for piece in column_pieces(store, "path")]
    return np.concatenate([np.empty(0, bool), *parts]).astype(bool)


def _open_all(index: Index, paths: Sequence[str | os.PathLike[str]]) -> list[EmbeddingStore]:
    if not paths:
        raise ValueError("stores is empty: give the stores that the index was built of")
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingStore.open(path)) for path in paths]
        for store in opened:
            try:
                index.check_compatible(store.meta)
            except IndexMismatchError as exc:
                raise IndexMismatchError(f"{store.path}: not a store of the index: {exc}") from exc
        stack.pop_all()
        return opened


def column_pieces(store: EmbeddingStore, column: str) -> Iterator[Any]:
    """A column of a store in pieces of bounded size: texts as lists, numbers as arrays.

    Args:
        store: The store.
        column: ``path`` (the id), ``label``, ``aspect``, a column of ``/images``, or an annotation.
    """
    for number, entry in enumerate(store.shards):
        for start in range(0, entry.embedded, _PIECE):
            shard, stop = store.shard(number), min(start + _PIECE, entry.embedded)
            if column == "path":
                yield _texts(shard.ids(start, stop))
            elif column == "label":
                yield _texts(shard.labels(start, stop))
            elif column == "aspect":
                width, height = (shard.image_column(n, start, stop) for n in ("width", "height"))
                yield width / height
            else:
                values = shard.image_column(column, start, stop)
                yield _texts(values) if values.dtype.hasobject else values


def _for_store(one: Filter, store: EmbeddingStore) -> Filter:
    """The filter on the store's column.

    Raises:
        StoreError: The store has no such column.
        ValueError: The column can't be compared so.
    """
    annotations = store.annotations
    if one.column in annotations:
        return one.for_kind(annotations[one.column])
    if one.column not in {*TEXTS, *NUMBERS}:
        known = ", ".join((*annotations, *TEXTS, *NUMBERS))
        raise StoreError(
            f"{store.path}: no column {one.column}; `embedkit annotate` puts columns in, and there "
            f"are {known}"
        )
    if one.column not in {"path", "label", "aspect", *store.columns}:
        raise StoreError(
            f"{store.path}: has no column {one.column}, it was extracted before that was measured; "
            "`embedkit quality --write` measures it and puts it in"
        )
    return one


def _texts(values: Sequence[bytes] | NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values]


def _hash_all(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
