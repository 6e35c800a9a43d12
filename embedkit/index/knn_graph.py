"""The nearest other rows of each row, in bounded memory: exact for few rows, in cells for many.

Each row belongs to its nearest cell, and is compared with the rows that have this cell among their
nearest ones. The graph lies in two files, which are mapped into memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.index.graph_passes import Cells, GraphPasses, join
from embedkit.index.spherical_kmeans import stream_centers
from embedkit.utils.mapped_array import MappedArray
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.index.graph_passes import Joined
    from embedkit.index.store_rows import StoreRows

__all__ = ["NeighborGraph", "knn_graph"]

_EXACT_BYTES = 128 * 2**20  # of float32 rows; more are compared in cells
_LEAST_ROWS, _MOST_ROWS = 500, 4000  # of a cell


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
    rows: StoreRows,
    numbers: NDArray[np.int64],
    k: int,
    folder: Path,
    *,
    seed: int = 0,
    passes: GraphPasses | None = None,
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
        passes: What reads the rows where they are compared in cells; None is this process.

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
            for where, found in join(rows, numbers, everything, shape[1]):
                _put(graph, everything[where], everything, found)
        return graph
    size = int(np.clip(np.sqrt(count), _LEAST_ROWS, _MOST_ROWS))
    centers = stream_centers(rows, numbers, max(count // size, 2), seed=seed, rounds=0, quick=True)
    passes = passes or GraphPasses(rows, numbers)
    cells = Cells(passes.probe(centers), len(centers))
    stage = Stage("finding neighbors", count, unit="images")

    def put(mine: NDArray[np.int64], others: NDArray[np.int64], found: Joined) -> None:
        _put(graph, mine, others, found)
        graph.release()
        stage.add(len(mine))

    passes.join(cells, shape[1], put)
    return graph


def _put(
    graph: NeighborGraph, mine: NDArray[np.int64], others: NDArray[np.int64], found: Joined
) -> None:
    """Writes the neighbors of some rows into a graph."""
    kept = found.places.shape[1]
    graph.neighbors[mine, :kept] = others[found.places]
    graph.cosines[mine, :kept] = found.cosines
    graph.neighbors[mine, kept:] = -1
    graph.cosines[mine, kept:] = -1
