"""The approximate threshold join: compares rows within IVF cells only, and measures its recall.

Each row belongs to its nearest cell, and is compared with the rows that have that cell among their
three nearest ones.

Source: Sivic, Zisserman, "Video Google" (2003), the inverted file; here both sides are its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.dedup.candidates.exact_join import (
    MAX_PAIRS,
    exact_join,
    exact_join_with,
    refuse_too_many,
)
from embedkit.dedup.unit_rows import UnitRows
from embedkit.utils.parallel import in_single_threads
from embedkit.utils.progress import Stage, track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found


__all__ = ["ivf_join", "measure_recall"]

_PROBES = 3
_DIMS_A_PAIR = 30  # a pair of rows costs as much as so many dimensions of a row and a centroid
_LEAST_ROWS, _MOST_ROWS = 4000, 10_000  # of a cell: planning its join takes time, its rows memory
_TRAINED_ROWS_A_CELL, _TRAINED_VALUES = 50, 2**28
_SAMPLED = 2000  # rows that are compared with all others to measure the recall


def ivf_join(
    rows: UnitRows,
    threshold: float,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    rows_a_cell: int | None = None,
) -> Found:
    """Finds most pairs whose cosine is at least ``threshold``; see ``exact_join``.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.
        rows_a_cell: Mean rows per cell; None takes the number that should be fastest.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    other = rows if against is None else against
    if not len(rows) or not len(other):
        return exact_join(rows, threshold, against=against)
    count = max(len(other) // (rows_a_cell or _quickest(len(other), other.dim)), 1)
    centroids = _centroids(other, count)
    probed = _nearest(other, centroids, min(_PROBES, count))
    own = probed[:, :1] if against is None else _nearest(rows, centroids, 1)
    members, near = _Lists.of(own, count), _Lists.of(probed, count)

    def join(cell: int) -> Found:
        mine, theirs = members.cell(cell), near.cell(cell)
        first, second, cosines = exact_join_with(
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
    cells = in_single_threads(join, range(count))
    for _, part in track(cells, "comparing cells", count, unit="cells"):
        found.append(part)
        so_far += len(part[0])
        refuse_too_many(so_far, max_pairs, threshold)
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return rows.numbers[first[order]], other.numbers[second[order]], cosines[order]


def measure_recall(
    found: Found, rows: UnitRows, threshold: float, *, against: UnitRows | None, max_pairs: int
) -> float | None:
    """The share of all pairs of 2,000 sampled rows that the join found.

    Returns:
        0 to 1; None if these rows have no pairs.
    """
    drawn = np.random.default_rng(1).permutation(len(rows))[:_SAMPLED]
    sampled = UnitRows(rows.embeddings, rows.numbers[np.sort(drawn)])
    first, second, _ = exact_join(sampled, threshold, against=against or rows, max_pairs=max_pairs)
    if against is None:
        apart = first != second
        first, second = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    if not len(first):
        return None
    width = max(int(column.max(initial=0)) for column in (found[1], second)) + 1
    expected = np.unique(first * width + second)
    return float(np.isin(expected, found[0] * width + found[1]).mean())


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
    """The rows per cell for which assigning cells costs as much as comparing within them."""
    balanced = np.sqrt(count * dim / (_DIMS_A_PAIR * _PROBES))
    return int(np.clip(balanced, _LEAST_ROWS, _MOST_ROWS))


def _centroids(rows: UnitRows, count: int) -> NDArray[np.float32]:
    import faiss

    most = max(_TRAINED_VALUES // rows.dim, count)
    means = faiss.Kmeans(
        rows.dim, count, niter=8, spherical=True, seed=1, min_points_per_centroid=1
    )
    with Stage("training the cells"):
        means.train(rows.sample(min(count * _TRAINED_ROWS_A_CELL, most)))
    return np.asarray(means.centroids)


def _nearest(rows: UnitRows, centroids: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """The cells of each row, nearest first, ``(n, count)``."""
    import faiss

    index = faiss.IndexFlatIP(rows.dim)
    index.add(centroids)
    out = np.empty((len(rows), count), np.int32)
    stage = Stage("finding the cells", len(rows), unit="rows")
    for where in rows.pieces():
        taken, _ = rows.coarse(where)  # their lengths change nothing
        out[where] = index.search(taken, count)[1]
        stage.update(where.stop)
    return out
