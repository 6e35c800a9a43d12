"""Measures the recall and time of an index with new queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.brute_force import nearest_rows, recall_at
from embedkit.index.manifest import OperatingPoint
from embedkit.index.timing import milliseconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.searcher import Searcher
    from embedkit.index.store_rows import RowOrder, StoreRows

__all__ = ["measure"]

_K = 10
_AT_ONCE = 64  # queries; ten rows of each are in memory


def measure(
    searcher: Searcher, rows: StoreRows, order: RowOrder, queries: NDArray[np.floating]
) -> OperatingPoint:
    """Compares what a search finds with brute force over the stores' rows.

    Args:
        searcher: The index, with its setting.
        rows: The rows of its stores.
        order: Which row lies at which position.
        queries: ``(Q, D)``, finite, at least one.
    """
    space, removed = searcher.space, searcher.removed
    vectors = space.project(queries)
    _, true = nearest_rows(vectors, rows, order, space, _K, stop=len(order), removed=removed)
    positions, _ = searcher.search(queries, min(_K, len(order)))
    found = np.full((len(queries), _K), -np.inf, np.float32)
    for start in range(0, len(queries), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        near = space.project(rows.read(order.at(np.maximum(part, 0)).reshape(-1)))
        near = near.reshape(*part.shape, -1)
        scores = space.compare(vectors[start : start + _AT_ONCE], near)
        found[start : start + _AT_ONCE, : part.shape[1]] = np.where(part < 0, -np.inf, scores)
    found = -np.sort(-found, axis=1)
    return OperatingPoint(
        searcher.params,
        round(recall_at(1, found, true), 4),
        round(recall_at(_K, found, true), 4),
        round(milliseconds(searcher, queries), 4),
    )
