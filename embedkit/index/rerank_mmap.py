"""Exact reranking without copies: faiss reads the memory-mapped rows of the store.

Applies to an index whose positions are the rows of one file. One call of faiss finds the candidates
of all queries and scores them, on all cores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import faiss_metric
from embedkit.index.faiss_views import view_memory
from embedkit.index.inverted_lists import is_on_disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.rerank import Reranker

__all__ = ["MmapRerank"]


class MmapRerank:
    """An index and the memory-mapped rows that its candidates are scored with, searched as one."""

    def __init__(self, index: faiss.Index, reranker: Reranker, rows: NDArray[np.floating]) -> None:
        """Combines an index and mapped rows; ``of`` checks whether they fit.

        Args:
            index: Finds the candidates; its ids must be checked before, because faiss checks none.
            reranker: Turns what faiss measures into scores.
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
        view_memory(self._stored.codes, rows)
        self._refined = faiss.IndexRefine(index, self._stored)
        self._refined.k_factor = 1.0

    @classmethod
    def of(cls, index: faiss.Index, reranker: Reranker) -> MmapRerank | None:
        """Returns None if rows and positions differ, or the space is whitened.

        Nor does it apply to lists on disk, which are too long for their ids to be checked.
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
            count: Candidates per query.

        Returns:
            ``(Q, count)`` positions, -1 for none, and float32 scores, minus infinity there.
        """
        measured, positions = self._refined.search(vectors, min(count, len(self._rows)))
        measured[positions < 0] = 0  # where there is none, faiss gives the largest number
        _, shift = self._reranker.space.pull_back(vectors)
        return positions, self._reranker.scaled(measured, shift, vectors, positions)
