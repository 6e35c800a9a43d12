"""Exact scores of candidates from the memory-mapped rows of the stores."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import faiss_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.store_rows import RowOrder, StoreRows
    from embedkit.index.vector_space import Space

__all__ = ["Reranker"]

_BUFFER_BYTES = 2 * 2**20  # fits a cache between gathering and comparing
_BUFFER_QUERIES = 16


class Reranker:
    """Compares queries with rows as they are stored; may be used from many threads.

    Attributes:
        space: The index's space.
        rows: The stores' rows.
        order: Which row lies at which position.
        factors: ``(N, num_factors)`` float32 of the positions, ``Space.factors``.
        is_direct: Whether scores are the negative distances to the rows as stored.
    """

    def __init__(
        self, space: Space, rows: StoreRows, order: RowOrder, factors: NDArray[np.float32]
    ) -> None:
        self.space, self.rows, self.order, self.factors = space, rows, order, factors
        self.is_direct = space.metric == "l2" and space.whitening is None
        self._own = threading.local()

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
        return self.scaled(measured, shift, vectors, positions)

    def scaled(
        self,
        measured: NDArray[np.float32],
        shift: NDArray[np.float32],
        vectors: NDArray[np.float32],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Scores from what was measured on rows as they are stored.

        Args:
            measured: ``(Q, k)`` inner products of pulled-back queries with rows, or distances.
            shift: ``(Q,)``, ``Space.pull_back``'s of the queries.
            vectors: ``(Q, dim)`` queries in the space.
            positions: ``(Q, k)``; -1 where there is no candidate.
        """
        if self.is_direct:
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
        rows = self.order.at(positions)
        buffer, out = self._buffer(k), np.empty((count, k), np.float32)
        for start in range(0, count, buffer.size):
            part = slice(start, min(start + buffer.size, count))
            source, places = (None, rows[part]) if mapped else self._read(rows[part])
            for chosen, block in zip(places, buffer.blocks, strict=False):
                if source is None:
                    self.rows.take(chosen, block)
                else:
                    np.take(source, chosen, axis=0, out=block, mode="clip")
            buffer.measure(queries[part], out[part])
        return out

    def _read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Each row once, in the files' order, and where each of ``rows`` is among them."""
        unique, places = np.unique(rows, return_inverse=True)
        return self.rows.read(unique), places.reshape(rows.shape)

    def _buffer(self, k: int) -> GatherBuffer:
        """The calling thread's buffer; a new one is allocated only if ``k`` changes."""
        buffer: GatherBuffer | None = getattr(self._own, "buffer", None)
        if buffer is None or buffer.k != k:
            metric = faiss_metric("l2" if self.is_direct else "ip")
            buffer = self._own.buffer = GatherBuffer(k, self.rows.dim, self.rows.dtype, metric)
        return buffer


class GatherBuffer:
    """A buffer for the stored rows of the candidates of some queries, which faiss compares.

    The candidates of each query form one inverted list of an IVF index, and each query scans only
    its own list. So one call of faiss compares all queries with their candidates, and converts
    float16 while it multiplies, which takes a tenth of the time of converting before.

    Attributes:
        k: Candidates per query.
        size: Number of queries.
        blocks: ``(k, D)`` array for each query, to be filled with its candidates.
    """

    def __init__(self, k: int, dim: int, dtype: np.dtype[np.floating], metric: int) -> None:
        nbytes = k * dim * dtype.itemsize
        self.k, self.size = k, min(max(_BUFFER_BYTES // nbytes, 1), _BUFFER_QUERIES)
        self._coarse = faiss.IndexFlat(dim, metric)  # unused, as lists are preassigned
        if dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexIVFScalarQuantizer(
                self._coarse, dim, self.size, half, metric, False
            )
        else:
            self._index = faiss.IndexIVFFlat(self._coarse, dim, self.size, metric)
        self._index.is_trained, self._index.ntotal = True, k * self.size
        self._lists = np.arange(self.size)[:, None]
        self._apart = np.zeros((self.size, 1), np.float32)
        self._found = np.empty((self.size, k), np.float32)
        self._places = np.empty((self.size, k), np.int64)
        lists = faiss.downcast_InvertedLists(self._index.invlists)
        self.blocks = []
        for number in range(self.size):
            lists.resize(number, k)
            faiss.rev_swig_ptr(lists.get_ids(number), k)[:] = np.arange(k)
            memory = faiss.rev_swig_ptr(lists.get_codes(number), nbytes)
            self.blocks.append(memory.view(dtype).reshape(k, dim))

    def measure(self, queries: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Compares queries, ``(n, D)``, with what is in their blocks, to ``out``, ``(n, k)``."""
        count = len(queries)
        found, places = self._found[:count], self._places[:count]
        self._index.search_preassigned(
            queries, self.k, self._lists[:count], self._apart[:count], D=found, I=places
        )
        out[self._lists[:count], places] = found
