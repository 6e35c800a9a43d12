"""Rows of embeddings, read and scaled to unit length on demand."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.utils.vectors import widen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["UnitRows"]

_VALUES_AT_ONCE = 2**20  # 8 MiB of float64


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

    def loaded(self, at: NDArray[np.int64]) -> UnitRows:
        """The rows at some places, loaded into memory."""
        return UnitRows(self._read(at))

    def take(self, at: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """The rows at some places among ``numbers``, ``(m, D)``; a row of zeros stays one."""
        return _unit(self._read(at))

    def coarse(
        self, at: NDArray[np.int64] | slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The rows at some places before they are scaled, in float32, and their lengths.

        A third of the time of ``take``. A row's values are off by up to ``2^-24`` of themselves,
        its length by ``(D / 2 + 2) 2^-24`` of itself.

        Returns:
            ``(m, D)`` rows and ``(m,)`` lengths to divide them by; that of a row of zeros is 1.
        """
        found = self._read(at)
        if found.dtype != np.float16:  # the squares of some float32 values are none
            return _unit(found).astype(np.float32), np.ones(len(found), np.float32)
        rows = widen(found)
        return rows, _lengths(rows)

    def pieces(self) -> Iterator[slice]:
        """All places in order, a bounded number at a time."""
        step = max(_VALUES_AT_ONCE // max(self.dim, 1), 1)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """All rows in order, a bounded number at a time, and where they are."""
        for where in self.pieces():
            yield where, self.take(where)

    def sample(self, count: int) -> NDArray[np.float32]:
        """Up to ``count`` rows, drawn from all of them, the same ones every time."""
        taken, lengths = self.coarse(self.drawn(count))
        return taken / lengths[:, None]

    def drawn(self, count: int) -> NDArray[np.int64] | slice:
        """The places of a sample, ascending."""
        if count >= len(self):
            return slice(None)
        return np.sort(np.random.default_rng(0).choice(len(self), count, replace=False))

    def cosines(
        self, first: NDArray[np.int64], other: UnitRows, second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The cosine of each pair of places, ``(P,)`` float64."""
        out = np.empty(len(first))
        for part in self._pieces_of_pairs(len(first)):
            left, right = self.take(first[part]), other.take(second[part])
            out[part] = np.einsum("nd,nd->n", left, right)
        return out

    def may_reach(
        self,
        first: NDArray[np.int64],
        other: UnitRows,
        second: NDArray[np.int64],
        threshold: float,
    ) -> NDArray[np.bool_]:
        """Which pairs' cosines may be ``threshold`` or more, ``(P,)``: few that aren't.

        Quicker than the cosines themselves, since it computes in float32.
        """
        out = np.empty(len(first), bool)
        # D for the sum, D / 2 for each length, and some for all else.
        least = np.float32(threshold - (2.5 * self.dim + 16) * 2.0**-24)
        for part in self._pieces_of_pairs(len(first)):
            (left, mine), (right, theirs) = self.coarse(first[part]), other.coarse(second[part])
            out[part] = np.einsum("nd,nd->n", left, right) / (mine * theirs) >= least
        return out

    def _read(self, at: NDArray[np.int64] | slice) -> NDArray[np.floating]:
        with self._lock:  # a store of many shards opens and closes them as it reads
            return np.asarray(self.embeddings[self.numbers[at]])

    def _pieces_of_pairs(self, count: int) -> Iterator[slice]:
        step = max(_VALUES_AT_ONCE // (2 * max(self.dim, 1)), 1)
        for start in range(0, count, step):
            yield slice(start, start + step)


def _unit(found: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = (widen(found) if found.dtype == np.float16 else found).astype(np.float64)
    rows /= _lengths(rows)[:, None]
    return rows


def _lengths(rows: NDArray[Any]) -> NDArray[Any]:
    """Of rows, ``(n, D)``; 1 for a row of zeros."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return np.asarray(np.where(lengths > 0, lengths, 1), rows.dtype)
