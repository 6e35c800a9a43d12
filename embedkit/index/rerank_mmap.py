"""Candidates compared in place: faiss reads the store's memory-mapped rows itself.

For an index whose positions are the rows of one file. Nothing is copied, and one call finds the
candidates of all queries and compares them, on all cores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import faiss_metric
from embedkit.index.inverted_lists import is_on_disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.rerank import Reranker

__all__ = ["InPlace"]


class InPlace:
    """An index and the mapped rows, searched as one."""

    def __init__(self, index: faiss.Index, reranker: Reranker, rows: NDArray[np.floating]) -> None:
        """Makes a search in place; ``of`` says where that can be.

        Args:
            index: What finds candidates; its ids are checked, as faiss checks none.
            reranker: What they would otherwise be compared by.
            rows: ``(N, D)`` float16 or float32, mapped; position n is row n.
        """
        self._reranker, self._rows = reranker, rows
        metric = faiss_metric("l2" if reranker.is_direct else "ip")
        if rows.dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            self._stored = faiss.IndexScalarQuantizer(rows.shape[1], half, metric)
        else:
            self._stored = faiss.IndexFlat(rows.shape[1], metric)
        self._stored.ntotal = len(rows)
        _show(self._stored.codes, rows)
        self._refined = faiss.IndexRefine(index, self._stored)
        self._refined.k_factor = 1.0

    @classmethod
    def of(cls, index: faiss.Index, reranker: Reranker) -> InPlace | None:
        """A search in place, or None where rows and positions aren't the same, or whitened.

        Lists on disk are too long for their ids to be checked.
        """
        stores = reranker.rows.stores
        if len(stores) != 1 or len(stores[0].shards) != 1 or not reranker.order.is_plain:
            return None
        rows = np.asarray(stores[0].embeddings)
        fits = 0 < len(rows) == index.ntotal and rows.flags.c_contiguous
        if not fits or reranker.space.whitening is not None or is_on_disk(index):
            return None
        return cls(index, reranker, rows)

    def search(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The candidates of each query with their exact scores, in no particular order.

        Args:
            vectors: ``(Q, D)`` queries in the space.
            count: Candidates a query.

        Returns:
            ``(Q, count)`` positions, -1 for none, and float32 scores, minus infinity there.
        """
        measured, positions = self._refined.search(vectors, min(count, len(self._rows)))
        measured[positions < 0] = 0  # where there is none, faiss gives the largest number
        _, shift = self._reranker.space.pull_back(vectors)
        return positions, self._reranker.scaled(measured, shift, vectors, positions)


def _show(codes: faiss.MaybeOwnedVectorUInt8, memory: NDArray[np.generic]) -> None:
    """Makes a vector of faiss be a view of memory, which has to outlive it."""
    memory = memory.reshape(-1).view(np.uint8)
    codes.is_owned = False
    codes.view_data = codes.c_ptr = faiss.swig_ptr(memory)
    codes.view_size = codes.c_size = memory.size
