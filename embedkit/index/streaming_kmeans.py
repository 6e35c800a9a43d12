"""Refines centroids by k-means on rows that are streamed from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import ivf_of, transformed
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows
    from embedkit.index.vector_space import Space

__all__ = ["can_move", "move_centroids"]

_BLOCK_BYTES = 32 * 2**20  # of float32 rows at once


def can_move(index: faiss.Index) -> bool:
    """Whether an index has inverted lists whose centroids lie in plain view."""
    ivf = ivf_of(index)
    return ivf is not None and isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexFlat)


def move_centroids(
    index: faiss.Index, rows: StoreRows, numbers: NDArray[np.int64], space: Space, rounds: int
) -> None:
    """Moves each inverted list's centroid to the mean of the rows that are nearest to it.

    Args:
        index: Trained and empty; ``can_move``.
        rows: The stores' rows.
        numbers: ``(n,)`` which of them to learn from, ascending.
        space: The index's space.
        rounds: How often they are read.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    ivf = ivf_of(index)
    assert ivf is not None
    quantizer = faiss.downcast_index(ivf.quantizer)
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    stage = Stage("training", rounds * len(numbers), unit="rows")
    for _ in range(rounds):
        sums = np.zeros((ivf.nlist, ivf.d), np.float32)
        counts = np.zeros(ivf.nlist, np.int64)
        for start in range(0, len(numbers), step):
            raw = rows.read(numbers[start : start + step])
            vectors = transformed(index, space.project(raw))
            nearest = quantizer.search(vectors, 1)[1][:, 0]
            order = np.argsort(nearest, kind="stable")
            filled, starts, many = np.unique(nearest[order], return_index=True, return_counts=True)
            sums[filled] += np.add.reduceat(vectors[order], starts, axis=0)
            counts[filled] += many
            stage.add(len(raw))
        centroids = quantizer.reconstruct_n(0, ivf.nlist)
        some = counts > 0  # an empty list stays where it is
        centroids[some] = sums[some] / counts[some, None]
        if ivf.metric_type == faiss.METRIC_INNER_PRODUCT:
            centroids = unit_rows(centroids)  # as in faiss's own training
        quantizer.reset()
        quantizer.add(centroids)
