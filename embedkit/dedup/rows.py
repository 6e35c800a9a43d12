"""Rows of embeddings, read and scaled to unit length as they are asked for."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.vectors import widen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["UnitRows"]

_VALUES_AT_ONCE = 2**19  # 4 MiB of float64


class UnitRows:
    """Some rows of a matrix, in float64 and of unit length; read by several threads.

    Attributes:
        numbers: ``(n,)`` int64, which rows.
        dim: D.
    """

    def __init__(self, embeddings: Any, numbers: NDArray[np.int64] | None = None) -> None:
        """Takes the rows of an array-like.

        Args:
            embeddings: ``(N, D)`` array or array-like of a store, finite.
            numbers: ``(n,)`` the rows to take; None for all.
        """
        self.embeddings = embeddings
        self._lock = Lock()
        count, self.dim = embeddings.shape
        self.numbers = np.arange(count) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, at: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """The rows at some places among ``numbers``, ``(m, D)``; a row of zeros stays one."""
        with self._lock:  # a store of many shards opens and closes them as it reads
            found = np.asarray(self.embeddings[self.numbers[at]])
        rows = (widen(found) if found.dtype == np.float16 else found).astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        rows /= np.where(norms > 0, norms, 1)[:, None]
        return rows

    def pieces(self) -> Iterator[slice]:
        """All places in order, a bounded number at a time."""
        step = max(_VALUES_AT_ONCE // max(self.dim, 1), 1)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """All rows in order, a bounded number at a time, and where they are."""
        for where in self.pieces():
            yield where, self.take(where)

    def sample(self, count: int) -> NDArray[np.float64]:
        """Up to ``count`` rows, drawn from all of them, the same ones every time."""
        if count >= len(self):
            return self.take(slice(None))
        drawn = np.random.default_rng(0).choice(len(self), count, replace=False)
        return self.take(np.sort(drawn))

    def cosines(
        self, first: NDArray[np.int64], other: UnitRows, second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The cosine of each pair of places, ``(P,)`` float64."""
        out = np.empty(len(first))
        step = max(_VALUES_AT_ONCE // (2 * max(self.dim, 1)), 1)
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            left, right = self.take(first[part]), other.take(second[part])
            out[part] = np.einsum("nd,nd->n", left, right)
        return out
