"""Lazy views of a store: embeddings as an array and ids as a sequence, read on access."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from embedkit.store.store import EmbeddingStore

__all__ = ["EmbeddingsView", "IdsView", "row_numbers"]

_IDS_AT_ONCE = 65536


class EmbeddingsView(NDArrayOperatorsMixin):
    """The embeddings of a store as one ``(N, D)`` array-like, memory-mapped and checked.

    Rows are indexed by an integer, a slice, an integer array or a boolean mask; columns as in
    NumPy. Of a store of one file, slices are read-only views; all else is a copy. The checksum of
    a block of rows is compared when one of them is first given out. Arithmetic takes all rows.

    Attributes:
        shape: ``(N, D)``.
        dtype: float16 or float32.
        ndim: 2.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self.shape = (len(store), store.meta.feature_dim)
        self.dtype = np.dtype(store.meta.dtype)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        first, *columns = (index if isinstance(index, tuple) else (index,)) or (...,)
        if first is Ellipsis:
            first = slice(None)
        if len(self._store.shards) == 1:
            return self._of_one_file(first, columns)
        rows = row_numbers(first, len(self))
        found = self._store.take(rows.reshape(-1))
        if isinstance(first, slice):
            return found[(slice(None), *columns)]
        # Row and column numbers go in pairs, as in NumPy.
        return found[(np.arange(rows.size).reshape(rows.shape), *columns)]

    def _of_one_file(self, first: Any, columns: list[Any]) -> Any:
        shard = self._store.shard(0)
        if isinstance(first, slice):
            shard.check(range(*first.indices(len(self))))
            return shard.embeddings[(first, *columns)]
        rows = row_numbers(first, len(self))
        shard.check(rows.reshape(-1))
        return shard.embeddings[(rows, *columns)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if len(self._store.shards) == 1:
            whole = self[:]
            return np.array(whole, dtype, copy=copy) if copy or dtype else np.asarray(whole)
        if copy is False:
            raise ValueError("the rows of several shards can't be one array without a copy")
        return self._store.to_numpy(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, EmbeddingsView) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)


def row_numbers(index: Any, count: int) -> NDArray[np.int64]:
    """The rows that an index means, from 0 to ``count`` - 1, in the index's shape.

    Args:
        index: A row number (negative from the end), a slice, row numbers or a mask ``(count,)``.
        count: How many rows there are.

    Raises:
        IndexError: There is no such row, or the mask has another length.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    rows = np.asarray(index)
    if rows.dtype == bool:
        if rows.shape != (count,):
            raise IndexError(f"a mask of shape {rows.shape} for {count} rows")
        return np.flatnonzero(rows)
    if not rows.size:
        return np.empty(rows.shape, np.int64)
    if rows.dtype.kind not in "iu":
        raise IndexError(f"rows are chosen by numbers, slices or masks, not by {index!r}")
    if rows.min() < -count or rows.max() >= count:
        raise IndexError(f"a row outside the {count} of the store")
    return np.where(rows < 0, rows + count, rows)


class IdsView(Sequence[str]):
    """The ids of a store, read from disk on access.

    Bytes that aren't UTF-8 come as surrogate escapes; ``os.fsencode`` gives the true path back.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if not isinstance(index, slice):
            number, row = self._store.locate(as_int(index))
            return _to_text(self._store.shard(number).ids(row, row + 1)[0])
        start, stop, step = index.indices(len(self))
        if step == 1:
            return self._read(start, stop)
        return [self[row] for row in range(start, stop, step)]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _IDS_AT_ONCE):
            yield from self._read(start, min(start + _IDS_AT_ONCE, len(self)))

    def _read(self, start: int, stop: int) -> list[str]:
        out: list[str] = []
        while start < stop:
            number, row = self._store.locate(start)
            end = min(row + stop - start, self._store.shards[number].embedded)
            out += map(_to_text, self._store.shard(number).ids(row, end))
            start += end - row
        return out


def _to_text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
