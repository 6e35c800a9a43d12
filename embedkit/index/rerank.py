"""Exact scores of candidates, from the stores' own rows, memory-mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.families import faiss_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.rows import RowOrder, StoreRows
    from embedkit.index.space import Space

__all__ = ["Reranker"]


class Reranker:
    """Compares queries with rows as they are stored; may be used from many threads.

    Attributes:
        space: The index's space.
        rows: The stores' rows.
        order: Which row lies at which position.
        factors: ``(N, num_factors)`` float32 of the positions, ``Space.factors``.
    """

    def __init__(
        self, space: Space, rows: StoreRows, order: RowOrder, factors: NDArray[np.float32]
    ) -> None:
        self.space, self.rows, self.order, self.factors = space, rows, order, factors
        self._direct = space.metric == "l2" and space.whitening is None

    def scores(
        self, vectors: NDArray[np.float32], positions: NDArray[np.int64], *, mapped: bool = True
    ) -> NDArray[np.float32]:
        """The exact scores of candidates.

        Args:
            vectors: ``(Q, dim)`` queries in the space.
            positions: ``(Q, k)``; -1 where there is no candidate.
            mapped: Whether rows come from the memory maps; else they are read from the files.

        Returns:
            ``(Q, k)`` float32, higher is closer; minus infinity where there is no candidate.
        """
        pulled, shift = self.space.pull_back(vectors)
        measured = self._measured(pulled, np.maximum(positions, 0), mapped)
        if self._direct:
            scores = -measured
        else:
            factors = np.asarray(self.factors[np.maximum(positions, 0)])
            scores = self.space.rescore(measured, shift, vectors, factors)
        return np.where(positions < 0, np.float32(-np.inf), scores)

    def _measured(
        self, queries: NDArray[np.float32], positions: NDArray[np.int64], mapped: bool
    ) -> NDArray[np.float32]:
        """Inner products (or squared distances) of queries with their rows, ``(Q, k)``."""
        count, k = positions.shape
        block, index = self._block(k)
        rows = self.order.at(positions)
        read, places = (None, rows) if mapped else self._read(rows)
        found, nearest = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        out = np.empty((count, k), np.float32)
        for number in range(count):
            if read is None:
                self.rows.take(places[number], block)
            else:
                np.take(read, places[number], axis=0, out=block)
            index.search(queries[number : number + 1], k, D=found, I=nearest)
            out[number, nearest[0]] = found[0]
        return out

    def _read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Each row once, in the files' order, and where each of ``rows`` is among them."""
        wanted, places = np.unique(rows, return_inverse=True)
        return self.rows.read(wanted), places.reshape(rows.shape)

    def _block(self, k: int) -> tuple[NDArray[np.floating], faiss.Index]:
        """Room for k rows as they are stored, and an index that has just them for its content.

        faiss converts float16 while it multiplies, which takes a tenth of converting before.
        """
        metric = faiss_metric("l2" if self._direct else "ip")
        dim, dtype = self.rows.dim, self.rows.dtype
        if dtype == np.float16:
            index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, metric)
        else:
            index = faiss.IndexFlat(dim, metric)
        nbytes = k * dim * dtype.itemsize
        index.codes.resize(nbytes)
        index.ntotal = k
        memory = faiss.rev_swig_ptr(index.codes.data(), nbytes)
        return memory.view(dtype).reshape(k, dim), index
