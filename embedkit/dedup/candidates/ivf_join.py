"""The approximate threshold join: compares rows within IVF cells only, and measures its recall.

Each row belongs to its nearest cell, and is compared with the rows that have that cell among their
three nearest ones.

Source: Sivic, Zisserman, "Video Google" (2003), the inverted file; here both sides are its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

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
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found
    from embedkit.dedup.scoring.background import Whitening

    Places = NDArray[np.int64]

__all__ = ["CellWork", "Cells", "Here", "ivf_join", "measure_recall", "nearest_cells"]

_PROBES = 3
_DIMS_A_PAIR = 30  # a pair of rows costs as much as so many dimensions of a row and a centroid
_LEAST_ROWS, _MOST_ROWS = 4000, 10_000  # of a cell: planning its join takes time, its rows memory
_TRAINED_ROWS_A_CELL, _TRAINED_VALUES = 50, 2**28
_SAMPLED = 2000  # rows that are compared with all others to measure the recall


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


@dataclass(frozen=True)
class Cells:
    """The rows of each cell, and those that they are compared with, by their places.

    Attributes:
        own: ``(n, 1)`` the nearest cell of each row.
        probed: ``(m, 3)`` the nearest cells of each of those that they are compared with.
        members: The rows of each cell.
        near: Those that have it among their nearest.
    """

    own: NDArray[np.int32]
    probed: NDArray[np.int32]
    members: _Lists
    near: _Lists

    @classmethod
    def of(
        cls,
        rows: UnitRows,
        other: UnitRows,
        work: CellWork,
        *,
        rows_a_cell: int | None = None,
        whitening: Whitening | None = None,
    ) -> Self:
        """Learns cells from a sample of ``other``, and finds those of all rows.

        Args:
            rows: Each belongs to its nearest cell.
            other: Those that have this cell among their three nearest are compared with it.
            work: Finds the cells of rows, whitened as the sample.
            rows_a_cell: Mean rows per cell; None takes the number that should be fastest.
            whitening: Whitens the sample; None leaves it.
        """
        count = max(len(other) // (rows_a_cell or _quickest(len(other), other.dim)), 1)
        most = max(_TRAINED_VALUES // other.dim, count)
        sample = other.sample(min(count * _TRAINED_ROWS_A_CELL, most))
        centroids = _centroids(sample if whitening is None else whitening.apply(sample), count)
        probed = work.cells(other, centroids, min(_PROBES, count))
        own = probed[:, :1] if rows is other else work.cells(rows, centroids, 1)
        return cls(own, probed, _Lists.of(own, count), _Lists.of(probed, count))

    def __len__(self) -> int:
        return len(self.members.starts) - 1

    def __getitem__(self, number: int) -> tuple[Places, Places]:
        return self.members.cell(number), self.near.cell(number)


class CellWork(Protocol):
    """Does what reads all rows: in this process, or in others."""

    def cells(
        self, rows: UnitRows, centroids: NDArray[np.float32], count: int
    ) -> NDArray[np.int32]:
        """The nearest cells of each row, nearest first, ``(n, count)``."""

    def join(
        self,
        rows: UnitRows,
        other: UnitRows,
        cells: Cells,
        threshold: float,
        max_pairs: int,
    ) -> Iterable[Found]:
        """Joins some places of ``rows`` with some of ``other``, cell by cell, in any order.

        Returns:
            Places and cosines for each cell.
        """

    def join_sample(
        self, sample: UnitRows, other: UnitRows, threshold: float, max_pairs: int
    ) -> Found:
        """Joins a sample with all other rows; see ``exact_join``."""


class Here:
    """Does the work in this process."""

    def cells(
        self, rows: UnitRows, centroids: NDArray[np.float32], count: int
    ) -> NDArray[np.int32]:
        """See ``CellWork``."""
        out = np.empty((len(rows), count), np.int32)
        stage = Stage("finding the cells", len(rows), unit="rows")
        for where in rows.pieces():
            out[where] = nearest_cells(rows.coarse(where)[0], centroids, count)
            stage.update(where.stop)
        return out

    def join(
        self,
        rows: UnitRows,
        other: UnitRows,
        cells: Cells,
        threshold: float,
        max_pairs: int,
    ) -> Iterator[Found]:
        """See ``CellWork``."""

        def join(cell: int) -> Found:
            mine, theirs = cells[cell]
            first, second, cosines = exact_join_with(
                map, rows.loaded(mine), threshold, other.loaded(theirs), max_pairs
            )
            return mine[first], theirs[second], cosines

        for _, found in track(
            in_single_threads(join, range(len(cells))), "comparing cells", len(cells), unit="cells"
        ):
            yield found

    def join_sample(
        self, sample: UnitRows, other: UnitRows, threshold: float, max_pairs: int
    ) -> Found:
        """See ``CellWork``."""
        return exact_join(sample, threshold, against=other, max_pairs=max_pairs)


def ivf_join(
    rows: UnitRows,
    threshold: float,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    rows_a_cell: int | None = None,
    work: CellWork | None = None,
) -> Found:
    """Finds most pairs whose cosine is at least ``threshold``; see ``exact_join``.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.
        rows_a_cell: Mean rows per cell; None takes the number that should be fastest.
        work: What does the work; None does it in this process.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    work = work or Here()
    other = rows if against is None else against
    if not len(rows) or not len(other):
        return exact_join(rows, threshold, against=against)
    cells = Cells.of(rows, other, work, rows_a_cell=rows_a_cell)
    own, probed = cells.own, cells.probed
    found, so_far = [], 0
    for first, second, cosines in work.join(rows, other, cells, threshold, max_pairs):
        if against is None:  # a pair that the other one's cell finds too, is one of the lower row
            twice = (probed[first] == own[second]).any(axis=1)
            kept = np.flatnonzero((first < second) | ~twice)
            first, second, cosines = first[kept], second[kept], cosines[kept]
            first, second = np.minimum(first, second), np.maximum(first, second)
        found.append((first, second, cosines))
        so_far += len(first)
        refuse_too_many(so_far, max_pairs, threshold)
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return rows.numbers[first[order]], other.numbers[second[order]], cosines[order]


def measure_recall(
    found: Found,
    rows: UnitRows,
    threshold: float,
    *,
    against: UnitRows | None,
    max_pairs: int,
    work: CellWork | None = None,
) -> float | None:
    """The share of all pairs of 2,000 sampled rows that the join found.

    Returns:
        0 to 1; None if these rows have no pairs.
    """
    drawn = np.random.default_rng(1).permutation(len(rows))[:_SAMPLED]
    sampled = UnitRows(rows.embeddings, rows.numbers[np.sort(drawn)])
    join = (work or Here()).join_sample
    first, second, _ = join(sampled, against or rows, threshold, max_pairs)
    if against is None:
        apart = first != second
        first, second = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    if not len(first):
        return None
    width = max(int(column.max(initial=0)) for column in (found[1], second)) + 1
    expected = np.unique(first * width + second)
    return float(np.isin(expected, found[0] * width + found[1]).mean())


def nearest_cells(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], count: int
) -> NDArray[np.int32]:
    """The cells of each of ``(n, D)`` rows of any lengths, nearest first, ``(n, count)``."""
    import faiss

    return np.asarray(faiss.knn(rows, centroids, count, faiss.METRIC_INNER_PRODUCT)[1], np.int32)


def _quickest(count: int, dim: int) -> int:
    """The rows per cell for which assigning cells costs as much as comparing within them."""
    balanced = np.sqrt(count * dim / (_DIMS_A_PAIR * _PROBES))
    return int(np.clip(balanced, _LEAST_ROWS, _MOST_ROWS))


def _centroids(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    import faiss

    means = faiss.Kmeans(
        sample.shape[1], count, niter=8, spherical=True, seed=1, min_points_per_centroid=1
    )
    with Stage("training the cells"):
        means.train(sample)
    return np.asarray(means.centroids)
