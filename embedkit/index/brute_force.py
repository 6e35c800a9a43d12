"""Brute-force search: exact neighbours and scores of queries, and recall against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import faiss_metric
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.spec import Metric
    from embedkit.index.store_rows import RowOrder, StoreRows
    from embedkit.index.vector_space import Space

__all__ = ["Nearest", "knn", "merge_nearest", "nearest_rows", "recall_at"]

Nearest = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""``(Q, k)`` rows and ``(Q, k)`` scores, best first."""

_BLOCK_BYTES = 32 * 2**20
_TIE = 1e-5  # scores closer than this are equal, as those of exact copies


def knn(
    vectors: NDArray[np.float32], rows: NDArray[np.float32], k: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest rows of each query, by comparing it with every row.

    Args:
        vectors: ``(Q, d)`` queries in the space.
        rows: ``(n, d)`` rows in the space.
        k: At most n.
        metric: The space's metric.

    Returns:
        ``(Q, k)`` int64 row numbers, best first, and ``(Q, k)`` float32 scores, higher is closer.
    """
    measured, nearest = faiss.knn(vectors, rows, k, faiss_metric(metric))
    return nearest, -measured if metric == "l2" else measured


def nearest_rows(
    vectors: NDArray[np.float32],
    rows: StoreRows,
    order: RowOrder,
    space: Space,
    k: int,
    *,
    stop: int,
    start: int = 0,
    removed: NDArray[np.bool_] | None = None,
) -> Nearest:
    """The k nearest of all rows for each query, by comparing with every row.

    Args:
        vectors: ``(Q, dim)`` queries in the space.
        rows: The stores' rows.
        order: Which row lies at which position.
        space: The index's space.
        k: How many.
        stop: Only positions before it count.
        start: The first position that counts.
        removed: ``(N,)`` bool, positions that don't count either.

    Returns:
        ``(Q, k)`` int64 rows and ``(Q, k)`` float32 scores, best first; -1 and minus infinity where
        there are fewer rows.
    """
    nearest = np.full((len(vectors), k), -1), np.full((len(vectors), k), -np.inf, np.float32)
    step = max(k, _BLOCK_BYTES // (4 * rows.dim))
    stage = Stage("searching exactly", stop - start, unit="rows")
    for first in range(start, stop, step):
        last = min(first + step, stop)
        stage.update(first - start)
        numbers = order.span(first, last)
        if removed is not None:
            numbers = numbers[~removed[first:last]]
        if not len(numbers):
            continue
        block = space.project(rows.read(numbers))
        found, scores = knn(vectors, block, min(k, len(block)), space.metric)
        nearest = merge_nearest(nearest, (numbers[found], scores))
    stage.update(stop - start)
    return nearest


def merge_nearest(nearest: Nearest, others: Nearest) -> Nearest:
    """The nearest of two sets of rows, as many as the first has; of equal ones the first's."""
    both = np.concatenate([nearest[1], others[1]], axis=1)
    kept = np.argsort(-both, axis=1, kind="stable")[:, : nearest[1].shape[1]]
    names = np.concatenate([nearest[0], others[0]], axis=1)
    return np.take_along_axis(names, kept, axis=1), np.take_along_axis(both, kept, axis=1)


def recall_at(k: int, found: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """The share of the k nearest rows that were found.

    Compares scores, so that any of several identical rows counts.

    Args:
        k: How many count.
        found: ``(Q, >= k)`` exact scores of what was found, best first.
        true: ``(Q, >= k)`` scores of the nearest, best first.
    """
    count = min(k, int(np.isfinite(true).sum(axis=1).min(initial=k)))
    if not count or not len(true):
        return 1.0
    least = true[:, count - 1 : count]
    enough = found[:, :count] >= least - _TIE * np.maximum(np.abs(least), 1)
    return float(enough.mean())
