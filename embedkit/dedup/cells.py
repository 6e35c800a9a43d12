"""Pairs of near rows within cells: quicker than every pair, and measured for what it misses.

Each row lies in its nearest cell, and is compared with the rows that have that cell among their
three nearest ones. Near rows lie in the same cells more often than not.

Source: Sivic, Zisserman, "Video Google" (2003), the inverted file; here both sides are its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.dedup.join import join_rows
from embedkit.dedup.rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["join_cells", "measure_recall"]

_ROWS_A_CELL = 2000
_PROBES = 3
_TRAINED_ROWS_A_CELL = 50
_ASKED = 500  # rows that are compared with all others to measure the recall

_Found = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float32]"]


def join_cells(
    rows: UnitRows,
    threshold: float,
    *,
    against: UnitRows | None = None,
    max_pairs: int,
    rows_a_cell: int = _ROWS_A_CELL,
    on_progress: Callable[[int, int], None] | None = None,
) -> _Found:
    """Finds most pairs whose cosine is at least ``threshold``; see ``join_rows``.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.
        rows_a_cell: On average.
        on_progress: Told how many of how many cells are done.
    """
    other = rows if against is None else against
    if not len(rows) or not len(other):
        return join_rows(rows, threshold, against=against)
    count = max(len(other) // rows_a_cell, 1)
    centroids = _centroids(other, count)
    mine = _nearest(rows, centroids, 1)[:, 0]
    probed = _nearest(other, centroids, min(_PROBES, count))
    found = []
    left = 0
    for cell in range(count):
        members = np.flatnonzero(mine == cell)
        near = np.flatnonzero((probed == cell).any(axis=1))
        part = join_rows(
            UnitRows(rows.embeddings, rows.numbers[members]), threshold,
            against=UnitRows(other.embeddings, other.numbers[near]), max_pairs=max_pairs - left,
        )  # fmt: skip
        found.append(_each_once(part) if against is None else part)
        left += len(found[-1][0])
        if on_progress is not None:
            on_progress(cell + 1, count)
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    _, kept = np.unique(np.stack([first, second], axis=1), axis=0, return_index=True)
    return first[kept], second[kept], cosines[kept]


def measure_recall(
    found: _Found, rows: UnitRows, threshold: float, *, against: UnitRows | None, max_pairs: int
) -> float:
    """The share of the pairs of 500 rows, compared with all others, that are among those found.

    Returns:
        0 to 1; 1 if these rows have no pairs.
    """
    drawn = np.random.default_rng(1).permutation(len(rows))[:_ASKED]
    asked = UnitRows(rows.embeddings, rows.numbers[np.sort(drawn)])
    exact = join_rows(asked, threshold, against=against or rows, max_pairs=max_pairs)
    if against is None:
        exact = _each_once(exact)
    wanted = np.unique(np.stack(exact[:2], axis=1), axis=0)
    if not len(wanted):
        return 1.0
    width = max(int(column.max(initial=0)) for column in (*found[:2], *exact[:2])) + 1
    there = np.isin(wanted[:, 0] * width + wanted[:, 1], found[0] * width + found[1])
    return float(there.mean())


def _each_once(found: _Found) -> _Found:
    """Lower row first, none with itself."""
    first, second, cosines = found
    apart = first != second
    low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    return low, high, cosines[apart]


def _centroids(rows: UnitRows, count: int) -> NDArray[np.float32]:
    sample = rows.sample(count * _TRAINED_ROWS_A_CELL).astype(np.float32)
    means = faiss.Kmeans(
        rows.dim, count, niter=8, spherical=True, seed=1, min_points_per_centroid=1
    )
    means.train(sample)
    return np.asarray(means.centroids)


def _nearest(rows: UnitRows, centroids: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The cells of each row, nearest first, ``(n, count)``."""
    index = faiss.IndexFlatIP(rows.dim)
    index.add(centroids)
    out = np.empty((len(rows), count), np.int64)
    for where, part in rows.parts():
        out[where] = index.search(part.astype(np.float32), count)[1]
    return out
