"""Refines centroids by k-means on rows that are streamed from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import ivf_of, transformed
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows
    from embedkit.index.vector_space import Space

    Sums = tuple[NDArray[np.float32], NDArray[np.int64]]

__all__ = ["add_to_nearest", "can_move", "move_centroids"]

_BLOCK_BYTES = 32 * 2**20  # of float32 rows at once


def can_move(index: faiss.Index) -> bool:
    """Whether an index has inverted lists whose centroids lie in plain view."""
    ivf = ivf_of(index)
    return ivf is not None and isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexFlat)


def move_centroids(
    index: faiss.Index,
    rows: StoreRows,
    numbers: NDArray[np.int64],
    space: Space,
    rounds: int,
    *,
    add_up: Callable[[NDArray[np.float32], Stage], Sums] | None = None,
) -> None:
    """Moves each inverted list's centroid to the mean of the rows that are nearest to it.

    Args:
        index: Trained and empty; ``can_move``.
        rows: The stores' rows.
        numbers: ``(n,)`` which of them to learn from, ascending.
        space: The index's space.
        rounds: How often they are read.
        add_up: Given the centroids, ``(lists, d)``, gives the sums of the rows that are nearest to
            each, and how many they are; it tells the stage how many rows it has read. None reads
            them here.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    ivf = ivf_of(index)
    assert ivf is not None
    quantizer = faiss.downcast_index(ivf.quantizer)
    stage = Stage("training", rounds * len(numbers), unit="rows")
    for _ in range(rounds):
        centroids = quantizer.reconstruct_n(0, ivf.nlist)
        sums, counts = (
            _added_up(index, rows, numbers, space, stage)
            if add_up is None
            else add_up(centroids, stage)
        )
        some = counts > 0  # an empty list stays where it is
        centroids[some] = sums[some] / counts[some, None]
        if ivf.metric_type == faiss.METRIC_INNER_PRODUCT:
            centroids = unit_rows(centroids)  # as in faiss's own training
        quantizer.reset()
        quantizer.add(centroids)


def add_to_nearest(
    sums: NDArray[np.float32],
    counts: NDArray[np.int64],
    vectors: NDArray[np.float32],
    nearest: NDArray[np.int64],
) -> None:
    """Adds vectors to the sums and counts of the centroids that are nearest to them."""
    order = np.argsort(nearest, kind="stable")
    filled, starts, many = np.unique(nearest[order], return_index=True, return_counts=True)
    sums[filled] += np.add.reduceat(vectors[order], starts, axis=0)
    counts[filled] += many


def _added_up(
    index: faiss.Index, rows: StoreRows, numbers: NDArray[np.int64], space: Space, stage: Stage
) -> Sums:
    ivf = ivf_of(index)
    assert ivf is not None
    sums, counts = np.zeros((ivf.nlist, ivf.d), np.float32), np.zeros(ivf.nlist, np.int64)
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    for start in range(0, len(numbers), step):
        raw = rows.read(numbers[start : start + step])
        vectors = transformed(index, space.project(raw))
        add_to_nearest(sums, counts, vectors, ivf.quantizer.search(vectors, 1)[1][:, 0])
        stage.add(len(raw))
    return sums, counts
