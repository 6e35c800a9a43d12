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
    from embedkit.store.reader import ShardFile

__all__ = ["MmapRerank"]


class MmapRerank:
    """An index and the memory-mapped rows that its candidates are scored with, searched as one."""

    def __init__(self, index: faiss.Index, reranker: Reranker, shard: ShardFile) -> None:
        """Combines an index and mapped rows; ``of`` checks whether they fit.

        Args:
            index: Finds the candidates; its ids must be checked before, because faiss checks none.
            reranker: Turns what faiss measures into scores.
            shard: The file of the rows; position n is row n.
        """
        rows = shard.embeddings
        self._reranker, self._shard = reranker, shard
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
        shard = reranker.rows.only_shard
        if shard is None or not reranker.order.is_plain or not 0 < len(shard) == index.ntotal:
            return None
        if reranker.space.whitening is not None or is_on_disk(index):
            return None
        return cls(index, reranker, shard)

    def search(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The candidates of each query with their exact scores, in no particular order.

        Args:
            vectors: ``(Q, D)`` queries in the space.
            count: Candidates per query.

        Returns:
            ``(Q, count)`` positions, -1 for none, and float32 scores, minus infinity there.

        Raises:
            StoreCorruptError: The checksum of a candidate's rows is wrong.
        """
        measured, positions = self._refined.search(vectors, min(count, len(self._shard)))
        self._shard.check(positions[positions >= 0])
        measured[positions < 0] = 0  # where there is none, faiss gives the largest number
        _, shift = self._reranker.space.pull_back(vectors)
        return positions, self._reranker.scaled(measured, shift, vectors, positions)
