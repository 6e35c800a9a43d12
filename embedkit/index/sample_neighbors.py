"""The nearest rows of a sample that is in memory, for many queries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.spherical_kmeans import train_centers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SampleNeighbors"]

_EXACT_ROWS = 4096  # a larger sample is searched in cells
_PROBED = 8


class SampleNeighbors:
    """Finds the nearest rows of a sample, by cosine.

    Up to 4,096 rows are all compared with each query. More are put into cells, one per square root
    of their number, and the 8 nearest cells are searched.

    Args:
        units: ``(n, D)`` the sample, of unit length; at least one row.
        seed: Seed of the cells.
    """

    def __init__(self, units: NDArray[np.float32], seed: int = 0) -> None:
        self._units = np.ascontiguousarray(units)
        self._cells = None
        if len(units) > _EXACT_ROWS:
            count, dim = math.isqrt(len(units)), units.shape[1]
            quantizer = faiss.IndexFlatIP(dim)
            quantizer.add(train_centers(self._units, count, seed))
            self._quantizer = quantizer  # faiss doesn't keep it alive
            self._cells = faiss.IndexIVFFlat(quantizer, dim, count, faiss.METRIC_INNER_PRODUCT)
            self._cells.nprobe = _PROBED
            self._cells.is_trained = True
            self._cells.add(self._units)

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest rows of each query, the nearest first.

        Args:
            queries: ``(q, D)`` of unit length.
            k: How many, at most n are found.

        Returns:
            ``(q, min(k, n))`` places in the sample, and the cosines; -1 and -2 where the cells hold
            fewer. Each query has at least one.
        """
        k = min(k, len(self._units))
        if self._cells is None:
            return self._exact(queries, k)
        cosines, found = self._cells.search(queries, k)
        is_lost = found[:, 0] < 0  # all its cells are empty: the sample has many equal rows
        if is_lost.any():
            found[is_lost], cosines[is_lost] = self._exact(queries[is_lost], k)
        return found, np.where(found < 0, np.float32(-2), cosines)

    def _exact(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        cosines, found = faiss.knn(queries, self._units, k, faiss.METRIC_INNER_PRODUCT)
        return found, cosines
