"""The nearest other rows of each row, in bounded memory: exact for few rows, in cells for many.

Each row belongs to its nearest cell, and is compared with the rows that have this cell among their
nearest ones. The graph lies in two files, which are mapped into memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np

from embedkit.index.spherical_kmeans import nearest_centers, stream_centers
from embedkit.utils.mapped_array import MappedArray
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows

__all__ = ["NeighborGraph", "knn_graph", "nearest_others"]

_EXACT_BYTES = 128 * 2**20  # of float32 rows; more are compared in cells
_LEAST_ROWS, _MOST_ROWS = 500, 4000  # of a cell
_PROBED = 4
_BLOCK_BYTES = 32 * 2**20


class NeighborGraph(NamedTuple):
    """The nearest other rows of each of n rows, best first.

    Attributes:
        neighbors: ``(n, k)`` int32, places among the n rows; -1 where fewer were found.
        cosines: ``(n, k)`` float32; -1 where fewer were found.
        files: What holds them, if they lie in files.
    """

    neighbors: NDArray[np.int32]
    cosines: NDArray[np.float32]
    files: tuple[MappedArray, ...] = ()

    def release(self) -> None:
        """Gives back the memory that the graph takes; it stays in its files."""
        for file in self.files:
            file.release()


def knn_graph(
    rows: StoreRows, numbers: NDArray[np.int64], k: int, folder: Path, *, seed: int = 0
) -> NeighborGraph:
    """The k nearest other rows of each row, by cosine.

    Up to 128 MiB of float32 rows are compared each with each. More are put into cells of 500 to
    4,000 rows, and each is compared with those in its cell and in those near: how many of the
    neighbors are found depends on how clustered the rows are. Memory is that of some cells and some
    30 bytes per row; the graph takes ``8 n k`` bytes in ``folder``.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        k: How many, at most n - 1 are found.
        folder: Where the graph's files are made.
        seed: Seed of the cells.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    count = len(numbers)
    shape = (count, max(min(k, count - 1), 0))
    if not shape[1]:
        return NeighborGraph(np.empty(shape, np.int32), np.empty(shape, np.float32))
    files = (
        MappedArray(folder / "neighbors", np.int32, shape),
        MappedArray(folder / "cosines", np.float32, shape),
    )
    graph = NeighborGraph(files[0].values, files[1].values, files)
    if 4 * count * rows.dim <= _EXACT_BYTES:
        with Stage("finding neighbors"):
            everything = np.arange(count)
            _join(graph, rows, numbers, everything, everything)
        return graph
    size = int(np.clip(np.sqrt(count), _LEAST_ROWS, _MOST_ROWS))
    cells = max(count // size, 2)
    centers = stream_centers(rows, numbers, cells, seed=seed, rounds=0, quick=True)
    probed = _probe(rows, numbers, centers)
    members = _Cells(probed[:, :1], len(centers))
    near = _Cells(probed, len(centers))
    stage = Stage("finding neighbors", count, unit="images")
    for cell in range(len(centers)):
        mine = members.places(cell)
        if len(mine):
            _join(graph, rows, numbers, mine, near.places(cell))
            graph.release()
            stage.add(len(mine))
    return graph


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
    queries = unit_rows(_read(rows, numbers[places]))
    best = np.full(len(places), -1, np.float32)
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    for start in range(0, len(numbers), step):
        units = unit_rows(rows.read(numbers[start : start + step]))
        near = min(2, len(units))
        cosines, found = faiss.knn(queries, units, near, faiss.METRIC_INNER_PRODUCT)
        cosines[found + start == places[:, None]] = -1
        np.maximum(best, cosines.max(axis=1), out=best)
    return best


def _read(rows: StoreRows, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
    """Rows in any order, read in the files' order."""
    distinct, back = np.unique(numbers, return_inverse=True)
    return rows.read(distinct)[back]


def _probe(
    rows: StoreRows, numbers: NDArray[np.int64], centers: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The nearest cells of each row, ``(n, 4)``, the nearest first."""
    count = min(_PROBED, len(centers))
    out = np.empty((len(numbers), count), np.int32)
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    stage = Stage("assigning cells", len(numbers), unit="images")
    for start in range(0, len(numbers), step):
        units = unit_rows(rows.read(numbers[start : start + step]))
        out[start : start + step] = nearest_centers(units, centers, count)[0]
        stage.add(len(units))
    return out


def _join(
    graph: NeighborGraph,
    rows: StoreRows,
    numbers: NDArray[np.int64],
    mine: NDArray[np.int64],
    others: NDArray[np.int64],
) -> None:
    """Finds the neighbors of some rows among others, both ascending places."""
    right = unit_rows(rows.read(numbers[others]))
    k = graph.neighbors.shape[1]
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    own = np.searchsorted(others, mine)  # a row is among the others itself
    for start in range(0, len(mine), step):
        some, self_place = mine[start : start + step], own[start : start + step]
        left = np.ascontiguousarray(right[self_place])
        near = min(k + 1, len(others))
        cosines, found = faiss.knn(left, right, near, faiss.METRIC_INNER_PRODUCT)
        is_other = found != self_place[:, None]
        is_other[is_other.all(axis=1), -1] = False  # copies of it came before: drop the last
        kept = near - 1
        graph.neighbors[some, :kept] = others[found[is_other].reshape(-1, kept)]
        graph.cosines[some, :kept] = cosines[is_other].reshape(-1, kept)
        graph.neighbors[some, kept:] = -1
        graph.cosines[some, kept:] = -1


class _Cells:
    """The rows of each cell.

    Args:
        probed: ``(n, p)`` cells of each row.
        count: Number of cells.
    """

    def __init__(self, probed: NDArray[np.int32], count: int) -> None:
        flat = probed.reshape(-1)
        self._width = probed.shape[1]
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=count))])

    def places(self, cell: int) -> NDArray[np.int64]:
        """The rows of a cell, ascending."""
        found = self._order[self._starts[cell] : self._starts[cell + 1]]
        return np.floor_divide(found, self._width, dtype=np.int64)
