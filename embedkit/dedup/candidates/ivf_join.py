"""Pairs of near rows within cells: quicker than every pair, and measured for what it misses.

Each row lies in its nearest cell, and is compared with the rows that have that cell among their
three nearest ones. Near rows lie in the same cells more often than not.

Source: Sivic, Zisserman, "Video Google" (2003), the inverted file; here both sides are its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import faiss
import numpy as np

from embedkit.dedup.candidates.exact_join import MAX_PAIRS, join_by, join_rows, refuse_too_many
from embedkit.dedup.unit_rows import UnitRows
from embedkit.utils.parallel import in_single_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found

    Tell = Callable[[str, int, int], None]

__all__ = ["join_cells", "measure_recall"]

_PROBES = 3
_DIMS_A_PAIR = 30  # a pair of rows costs as much as so many dimensions of a row and a centroid
_LEAST_ROWS, _MOST_ROWS = 4000, 10_000  # of a cell: planning its join takes time, its rows memory
_TRAINED_ROWS_A_CELL, _TRAINED_VALUES = 50, 2**28
_ASKED = 2000  # rows that are compared with all others to measure the recall


def join_cells(
    rows: UnitRows,
    threshold: float,
    tell: Tell,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    rows_a_cell: int | None = None,
) -> Found:
    """Finds most pairs whose cosine is at least ``threshold``; see ``join_rows``.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine.
        tell: Told what is done, how much of how much.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.
        rows_a_cell: On average; None takes as many as should be quickest.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    other = rows if against is None else against
    if not len(rows) or not len(other):
        return join_rows(rows, threshold, against=against)
    count = max(len(other) // (rows_a_cell or _quickest(len(other), other.dim)), 1)
    centroids = _centroids(other, count)
    probed = _nearest(other, centroids, min(_PROBES, count), tell)
    own = probed[:, :1] if against is None else _nearest(rows, centroids, 1, tell)
    members, near = _Lists.of(own, count), _Lists.of(probed, count)

    def join(cell: int) -> Found:
        mine, theirs = members.cell(cell), near.cell(cell)
        first, second, cosines = join_by(
            map, rows.loaded(mine), threshold, other.loaded(theirs), max_pairs
        )
        first, second = mine[first], theirs[second]
        if against is None:  # a pair that the other one's cell finds too, is one of the lower row
            twice = (probed[first] == own[second]).any(axis=1)
            kept = np.flatnonzero((first < second) | ~twice)
            first, second, cosines = first[kept], second[kept], cosines[kept]
            first, second = np.minimum(first, second), np.maximum(first, second)
        return first, second, cosines

    found, so_far = [], 0
    for cell, part in in_single_threads(join, range(count)):
        found.append(part)
        so_far += len(part[0])
        refuse_too_many(so_far, max_pairs, threshold)
        tell("comparing cells", cell + 1, count)
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return rows.numbers[first[order]], other.numbers[second[order]], cosines[order]


def measure_recall(
    found: Found, rows: UnitRows, threshold: float, *, against: UnitRows | None, max_pairs: int
) -> float | None:
    """The share of the pairs of 2,000 rows, compared with all others, that are among those found.

    Returns:
        0 to 1; None if these rows have no pairs.
    """
    drawn = np.random.default_rng(1).permutation(len(rows))[:_ASKED]
    asked = UnitRows(rows.embeddings, rows.numbers[np.sort(drawn)])
    first, second, _ = join_rows(asked, threshold, against=against or rows, max_pairs=max_pairs)
    if against is None:
        apart = first != second
        first, second = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    if not len(first):
        return None
    width = max(int(column.max(initial=0)) for column in (found[1], second)) + 1
    wanted = np.unique(first * width + second)
    return float(np.isin(wanted, found[0] * width + found[1]).mean())


@dataclass(frozen=True)
class _Lists:
    """The rows of each cell.

    Attributes:
        places: ``(n k,)`` of the rows, cell by cell, ascending within each.
        starts: ``(cells + 1,)`` where each cell begins among them.
    """

    places: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, cells: NDArray[np.int32], count: int) -> Self:
        """From the ``(n, k)`` cells of each row."""
        flat = cells.reshape(-1)
        starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=count))])
        return cls(np.argsort(flat, kind="stable") // cells.shape[1], starts)

    def cell(self, number: int) -> NDArray[np.int64]:
        """The places of one cell's rows."""
        return self.places[self.starts[number] : self.starts[number + 1]]


def _quickest(count: int, dim: int) -> int:
    """The rows a cell for which finding each row's cells costs as much as comparing within them."""
    balanced = np.sqrt(count * dim / (_DIMS_A_PAIR * _PROBES))
    return int(np.clip(balanced, _LEAST_ROWS, _MOST_ROWS))


def _centroids(rows: UnitRows, count: int) -> NDArray[np.float32]:
    most = max(_TRAINED_VALUES // rows.dim, count)
    means = faiss.Kmeans(
        rows.dim, count, niter=8, spherical=True, seed=1, min_points_per_centroid=1
    )
    means.train(rows.sample(min(count * _TRAINED_ROWS_A_CELL, most)))
    return np.asarray(means.centroids)


def _nearest(
    rows: UnitRows, centroids: NDArray[np.float32], count: int, tell: Tell
) -> NDArray[np.int32]:
    """The cells of each row, nearest first, ``(n, count)``."""
    index = faiss.IndexFlatIP(rows.dim)
    index.add(centroids)
    out = np.empty((len(rows), count), np.int32)
    for where in rows.pieces():
        taken, _ = rows.coarse(where)  # their lengths change nothing
        out[where] = index.search(taken, count)[1]
        tell("finding the cells", where.stop, len(rows))
    return out
