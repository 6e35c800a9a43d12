"""Passes over rows that find their neighbors: nearest cells, neighbors within cells, among all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np

from embedkit.index.spherical_kmeans import nearest_centers
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows

__all__ = [
    "Cells", "GraphPasses", "Joined", "highest_cosines", "join", "nearest_others", "probe",
    "read_units", "rows_at_once",
]  # fmt: skip

_PROBED = 4
_BLOCK_BYTES = 32 * 2**20


class GraphPasses:
    """Reads the rows of a graph, in this process.

    Attributes:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
    """

    def __init__(self, rows: StoreRows, numbers: NDArray[np.int64]) -> None:
        self.rows, self.numbers = rows, numbers

    def probe(self, centers: NDArray[np.float32]) -> NDArray[np.int32]:
        """The nearest cells of each row, ``(n, 4)``, the nearest first."""
        return probe(self.rows, self.numbers, centers)

    def join(
        self,
        cells: Cells,
        k: int,
        put: Callable[[NDArray[np.int64], NDArray[np.int64], Joined], None],
    ) -> None:
        """Finds the neighbors of the rows of each cell.

        Args:
            cells: The cells.
            k: Neighbors of each row.
            put: Called with the places of some rows of a cell, those of the rows that they were
                compared with, and what was found among them.
        """
        for cell in cells:
            mine, others = cells.members(cell), cells.near(cell)
            for where, found in join(self.rows, self.numbers[others], cells.own(cell), k):
                put(mine[where], others, found)

    def nearest_others(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """As the function ``nearest_others``."""
        return nearest_others(self.rows, self.numbers, places)


def nearest_others(
    rows: StoreRows, numbers: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The highest cosine of some rows to any other row, by comparing them with all.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        places: ``(m,)`` the rows to compare, as places among ``numbers``.

    Returns:
        ``(m,)`` float32; -1 if there is no other row.
    """
    return highest_cosines(rows, numbers, read_units(rows, numbers[places]), places)


def highest_cosines(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    queries: NDArray[np.float32],
    own: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The highest cosine of some queries to the rows ``numbers``, each but itself.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        queries: ``(m, D)`` of unit length.
        own: ``(m,)`` where each is among ``numbers``; below 0, or n or more, if it isn't there.

    Returns:
        ``(m,)`` float32; -1 if there is no other row.
    """
    best = np.full(len(queries), -1, np.float32)
    step = rows_at_once(rows.dim)
    for start in range(0, len(numbers), step):
        units = unit_rows(rows.read(numbers[start : start + step]))
        near = min(2, len(units))
        cosines, found = faiss.knn(queries, units, near, faiss.METRIC_INNER_PRODUCT)
        cosines[found + start == own[:, None]] = -1
        np.maximum(best, cosines.max(axis=1), out=best)
    return best


def rows_at_once(dim: int) -> int:
    """How many rows of D values are read at once."""
    return max(1, _BLOCK_BYTES // (4 * dim))


def read_units(rows: StoreRows, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows in any order, of unit length, read in the files' order."""
    distinct, back = np.unique(numbers, return_inverse=True)
    return unit_rows(rows.read(distinct)[back])


def probe(
    rows: StoreRows, numbers: NDArray[np.int64], centers: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The nearest cells of each row, ``(n, 4)``, the nearest first."""
    count = min(_PROBED, len(centers))
    out = np.empty((len(numbers), count), np.int32)
    step = rows_at_once(rows.dim)
    stage = Stage("assigning cells", len(numbers), unit="images")
    for start in range(0, len(numbers), step):
        units = unit_rows(rows.read(numbers[start : start + step]))
        out[start : start + step] = nearest_centers(units, centers, count)[0]
        stage.add(len(units))
    return out


def join(
    rows: StoreRows, numbers: NDArray[np.int64], own: NDArray[np.int64], k: int
) -> Iterator[tuple[slice, Joined]]:
    """Finds the nearest of some rows for some of them, a bounded number at a time.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` those to compare with, ascending.
        own: ``(m,)`` places among them whose neighbors are found.
        k: How many.

    Yields:
        Which of ``own``, and their neighbors as places among ``numbers``.
    """
    units = unit_rows(rows.read(numbers))
    near = min(k + 1, len(numbers))
    step = rows_at_once(rows.dim)
    for start in range(0, len(own), step):
        some = own[start : start + step]
        left = np.ascontiguousarray(units[some])
        cosines, found = faiss.knn(left, units, near, faiss.METRIC_INNER_PRODUCT)
        is_other = found != some[:, None]
        is_other[is_other.all(axis=1), -1] = False  # copies of it came before: drop the last
        shape = len(some), near - 1
        yield (
            slice(start, start + len(some)),
            Joined(
                found[is_other].reshape(shape).astype(np.int32), cosines[is_other].reshape(shape)
            ),
        )


class Joined(NamedTuple):
    """The neighbors of some rows, best first; k of them, or fewer if there are no more.

    Attributes:
        places: ``(m, k)`` int32, among the rows that they were compared with.
        cosines: ``(m, k)`` float32.
    """

    places: NDArray[np.int32]
    cosines: NDArray[np.float32]


class Cells:
    """The rows of each cell, and those near it; iterates over the cells that have rows.

    Args:
        probed: ``(n, p)`` the nearest cells of each row, the nearest first.
        count: Number of cells.
    """

    def __init__(self, probed: NDArray[np.int32], count: int) -> None:
        self._own, self._near = _Places(probed[:, :1], count), _Places(probed, count)
        self._count = count

    def __iter__(self) -> Iterator[int]:
        return (cell for cell in range(self._count) if len(self.members(cell)))

    def members(self, cell: int) -> NDArray[np.int64]:
        """The places of its rows, ascending."""
        return self._own.of(cell)

    def near(self, cell: int) -> NDArray[np.int64]:
        """The places of all rows that it is one of the nearest cells of, ascending."""
        return self._near.of(cell)

    def own(self, cell: int) -> NDArray[np.int64]:
        """Where its rows are among those near it."""
        return np.searchsorted(self.near(cell), self.members(cell))


class _Places:
    """The places of each cell, where ``(n, p)`` cells belong to each place."""

    def __init__(self, probed: NDArray[np.int32], count: int) -> None:
        flat = probed.reshape(-1)
        self._width = probed.shape[1]
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=count))])

    def of(self, cell: int) -> NDArray[np.int64]:
        """Those of a cell, ascending."""
        found = self._order[self._starts[cell] : self._starts[cell + 1]]
        return np.floor_divide(found, self._width, dtype=np.int64)
