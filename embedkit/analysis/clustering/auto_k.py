"""Chooses the number of clusters by the simplified silhouette of held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.spherical_kmeans import nearest_centers, train_centers
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["SAMPLED", "choose_k"]

SAMPLED = 10_000  # rows: half of them are clustered, half of them judge
_MOST_CLUSTERS = 500
_GROWTH = 1.4  # from one number that is tried to the next
_FINER = 8  # numbers that are tried between the best one's neighbors


def choose_k(units: NDArray[np.float32], seed: int) -> int:
    """The number of clusters whose centers are best told apart by rows that they weren't made of.

    For each row, a is its cosine distance to the nearest center and b that to the second nearest;
    the number with the highest mean of ``(b - a) / b`` is taken. Tried are 2, 3, 4, 5, 8,
    11, ... up to 500 and to a fifth of the rows, then numbers around the best one.

    Source: Hruschka, de Castro, Campello, "Evolutionary algorithms for clustering gene-expression
    data" (2004), the simplified silhouette; here on rows that were held out, so that it doesn't
    rise with the number of clusters by itself.

    Args:
        units: ``(n, D)`` of unit length, in random order.
        seed: Seed of k-means.

    Returns:
        The number; 1 for fewer than ten rows or if they are all the same.
    """
    train, held_out = units[::2], units[1::2]
    most = min(_MOST_CLUSTERS, len(units) // 5)
    if most < 2:
        return 1
    scores: dict[int, float] = {}

    def judge(numbers: Iterable[int]) -> int:
        for k in numbers:
            if k not in scores:
                scores[k] = _silhouette(train_centers(train, k, seed), held_out)
                stage.add()
        return min(scores, key=lambda k: (-scores[k], k))

    grid = _grid(most)
    with Stage("choosing k", len(grid) + _FINER, unit="clusterings") as stage:
        best = judge(grid)
        at = grid.index(best)
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
        best = judge(sorted({round(k) for k in np.linspace(low, high, _FINER + 2)}))
    return best if scores[best] > 0 else 1


def _grid(most: int) -> list[int]:
    numbers, k = {2}, 2.0
    while round(k) <= most:
        numbers.add(round(k))
        k *= _GROWTH
    return sorted(numbers)


def _silhouette(centers: NDArray[np.float32], units: NDArray[np.float32]) -> float:
    cosines = nearest_centers(units, centers, 2)[1].astype(np.float64)
    a, b = 1 - cosines[:, 0], 1 - cosines[:, 1]
    return float(np.mean((b - a) / np.maximum(b, 1e-6)))
