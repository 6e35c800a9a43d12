"""Each image's exact nearest neighbours, computed block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import first_not_finite, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["nearest_others", "unit_block"]

_QUERY_ROWS, _OTHER_ROWS = 8192, 2048  # rows per block; their cosines are 64 MiB


def nearest_others(
    store: EmbeddingStore, k: int, queries: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest other images of each image by cosine, best first.

    Every pair is compared: the time grows with the square of N, the memory with ``N k``.

    Args:
        store: N embeddings; they need not be normalised.
        k: How many; no more than N - 1 are found.
        queries: ``(n,)`` query rows, ascending; None takes all N.

    Returns:
        ``(n, k)`` row numbers and cosines. Of equal cosines the lower row comes first.

    Raises:
        StoreError: A row isn't finite.
    """
    count = len(store)
    queries = np.arange(count) if queries is None else queries
    k = max(min(k, count - 1), 0)
    rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    stage = Stage("finding neighbours", len(queries), unit="images")
    for start in range(0, len(queries) if k else 0, _QUERY_ROWS):
        mine = queries[start : start + _QUERY_ROWS]
        left, best = unit_block(store, mine), _Best(len(mine), k)
        for first in range(0, count, _OTHER_ROWS):
            others = np.arange(first, min(first + _OTHER_ROWS, count))
            cosines = left @ unit_block(store, others).T
            # An image is no neighbour of itself.
            own = np.arange(*np.searchsorted(mine, (first, first + len(others))).tolist())
            cosines[own, mine[own] - first] = -np.inf
            best.add(cosines, first)
        rows[start : start + len(mine)], scores[start : start + len(mine)] = best.rows, best.scores
        stage.add(len(mine))
    return rows, scores


def unit_block(store: EmbeddingStore, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows of unit length, ``(n, D)``.

    Raises:
        StoreError: One isn't finite.
    """
    taken = store.take(rows)
    bad = first_not_finite(taken)
    if bad is not None:
        raise StoreError(f"{store.path}: the embedding of row {rows[bad]} isn't finite")
    return unit_rows(taken)


class _Best:
    """The k highest scores of each of n lines, of those that were added so far, best first.

    Attributes:
        rows: ``(n, k)`` int64, which they are; -1 where there are fewer.
        scores: ``(n, k)`` float32.
    """

    def __init__(self, lines: int, k: int) -> None:
        self.rows = np.full((lines, k), -1, np.int64)
        self.scores = np.full((lines, k), -np.inf, np.float32)

    def add(self, scores: NDArray[np.float32], first: int) -> None:
        """Takes ``(n, m)`` scores of the rows from ``first`` on, later than all before."""
        k, size = self.rows.shape[1], scores.shape[1]
        # The next larger float, so that the first of equal scores stays.
        thresholds = np.nextafter(self.scores[:, -1], np.float32(np.inf))
        if size > k and np.isneginf(self.scores[:, -1]).any():  # else everything would pass
            thresholds = np.maximum(thresholds, np.partition(scores, -k, axis=1)[:, -k])
        lines, columns = np.divmod(np.flatnonzero(scores >= thresholds[:, None]), size)
        changed, places = np.unique(lines, return_inverse=True)
        owners = np.concatenate([np.repeat(np.arange(len(changed)), k), places])
        rows = np.concatenate([self.rows[changed].reshape(-1), columns + first])
        values = np.concatenate([self.scores[changed].reshape(-1), scores[lines, columns]])
        order = np.lexsort((rows, -values, owners))
        counts = np.bincount(owners, minlength=len(changed))
        kept = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]
        self.rows[changed], self.scores[changed] = rows[kept], values[kept]
