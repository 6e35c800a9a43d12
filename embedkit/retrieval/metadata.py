"""What the stores behind an index know of its images, found by id."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.errors import IndexFileError, IndexMismatchError, StoreError
from embedkit.retrieval.filters import NUMBERS
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.index import Index
    from embedkit.retrieval.filters import Filter

__all__ = ["Catalog", "column_pieces"]

_PIECE = 65536  # rows


class Catalog:
    """The rows of one store or several, numbered through; N in all.

    Use it as a context manager, or ``close`` it.

    Attributes:
        stores: The stores, open.
        follows_index: Whether they are all that the index was made of, in its order, so that it
            can be told which of its rows may be found.
    """

    def __init__(self, stores: Sequence[EmbeddingStore], *, follows_index: bool = False) -> None:
        self.stores = tuple(stores)
        self.follows_index = follows_index
        self._starts = np.cumsum([0, *map(len, stores)])

    @classmethod
    def open(
        cls, index: Index, stores: Sequence[str | os.PathLike[str]] | None = None
    ) -> Catalog | None:
        """The catalog of an index.

        Args:
            index: The index.
            stores: What it was built of; None takes what the index says, and if that isn't there
                as it was, ``photos.h5`` beside ``photos.index``, if embedded as the index was.

        Returns:
            The catalog; None if no store was named and there is none beside the index.

        Raises:
            StoreError: A store can't be read.
            IndexMismatchError: A store that was named was embedded otherwise than the index.
        """
        if stores is not None:
            return cls._of(index, _open_all(index, stores))
        if index.manifest.stores:
            with suppress(IndexFileError):  # gone, or changed since
                return cls._of(index, index.open_stores())
        path = Path(index.path)
        beside = path.with_name(path.name.removesuffix(".index") + ".h5")
        if not beside.exists():
            return None
        try:
            return cls._of(index, _open_all(index, [beside]))
        except IndexMismatchError:  # another store of that name
            return None

    @classmethod
    def _of(cls, index: Index, stores: Sequence[EmbeddingStore]) -> Catalog:
        known = [entry.fingerprint for entry in index.manifest.stores]
        return cls(stores, follows_index=[store.fingerprint for store in stores] == known)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stores."""
        for store in self.stores:
            store.close()

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The rows of n ids, ``(n,)``; -1 for an id that isn't there.

        Of rows of one id it is the first.
        """
        hashes, rows = self._hashed_ids
        if not len(hashes):
            return np.full(len(ids), -1)
        wanted = _hash_all(ids)
        at = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
        return np.where(hashes[at] == wanted, rows[at], -1)

    def vector(self, row: int) -> NDArray[np.floating]:
        """The embedding of a row, ``(D,)``, as stored."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return np.array(self.stores[number].embeddings[row - int(self._starts[number])])

    @cached_property
    def content_hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of the images' bytes, ``(N, 32)``."""
        pieces = [piece for store in self.stores for piece in column_pieces(store, "content_hash")]
        return np.concatenate(pieces) if pieces else np.empty((0, 32), np.uint8)

    def passing(self, filters: Sequence[Filter]) -> NDArray[np.bool_]:
        """Which rows pass all the filters, ``(N,)``.

        Raises:
            StoreError: A filter asks for labels, and no store has any.
        """
        passed = np.ones(len(self), bool)
        for one in filters:
            if one.column == "label" and not any(store.has_labels for store in self.stores):
                raise StoreError(f"{self.stores[0].path}: has no labels to filter by")
            start = 0
            for store in self.stores:
                for values in column_pieces(store, one.column):
                    passed[start : start + len(values)] &= one.passes(values)
                    start += len(values)
        return passed

    @cached_property
    def _hashed_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """64-bit hashes of all ids, sorted, and their rows: 16 bytes an image.

        Python's own hashes of strings have a secret key, so nobody can make two ids agree.
        """
        pieces = [_hash_all(ids) for store in self.stores for ids in column_pieces(store, "path")]
        hashes = np.concatenate(pieces) if pieces else np.empty(0, np.int64)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order


def _open_all(index: Index, paths: Sequence[str | os.PathLike[str]]) -> list[EmbeddingStore]:
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingStore.open(path)) for path in paths]
        for store in opened:
            try:
                index.check_compatible(store.meta)
            except IndexMismatchError as exc:
                raise IndexMismatchError(f"{store.path}: no store of the index: {exc}") from exc
        stack.pop_all()
        return opened


def column_pieces(store: EmbeddingStore, column: str) -> Iterator[Any]:
    """A column of a store in pieces of bounded size: texts as lists, numbers as arrays.

    Args:
        store: The store.
        column: ``path`` (the id), ``label``, or a column of ``/images``.
    """
    for number, entry in enumerate(store.shards):
        for start in range(0, entry.embedded, _PIECE):
            shard, stop = store.shard(number), min(start + _PIECE, entry.embedded)
            if column == "path":
                yield _texts(shard.ids(start, stop))
            elif column == "label":
                yield _texts(shard.labels(start, stop))
            else:
                values = shard.image_column(column, start, stop)
                yield values if column in {*NUMBERS, "content_hash"} else _texts(values)


def _texts(values: Sequence[bytes] | NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values]


def _hash_all(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
