"""Searching: candidates from faiss, those that were removed left out, exact scores, the best k."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import faiss
import numpy as np

from embedkit.index.families import faiss_metric, set_params
from embedkit.index.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.index.families import SearchParams
    from embedkit.index.rerank import Reranker
    from embedkit.index.space import Space

__all__ = ["Searcher"]

T = TypeVar("T")

_CHUNK = 32  # queries that a thread takes at once
_LEAST_K = 10  # the k that searches are tuned for
_FEW_LEFT = 16384  # rows that are rather all compared than looked for
_MOST_GONE = 0.8  # share of rows from which an exact search looks at the others one by one


class Searcher:
    """What searches a faiss index; positions in, positions out.

    Attributes:
        index: The faiss index.
        space: The space of its vectors.
        removed: ``(N,)`` bool, which positions are left out; None if none is.
        params: What a search may cost.
        reranker: What compares candidates anew; None if faiss's scores are taken.
    """

    def __init__(
        self,
        index: faiss.Index,
        space: Space,
        params: SearchParams,
        reranker: Reranker | None = None,
        removed: NDArray[np.bool_] | None = None,
    ) -> None:
        self.index, self.space, self.reranker, self.removed = index, space, reranker, removed
        self._pool: ThreadPoolExecutor | None = None
        self.set_params(params)

    def set_params(self, params: SearchParams) -> None:
        """Sets what a search may cost."""
        self.params = params
        set_params(self.index, params)

    def search(
        self, queries: NDArray[np.floating], k: int, gone: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest positions of each query.

        Args:
            queries: ``(Q, D)``, finite, Q at least 1.
            k: From 1 to the number of positions that aren't left out.
            gone: ``(N,)`` bool, which positions are left out; None leaves out ``removed``.

        Returns:
            ``(Q, k)`` positions, best first, -1 where fewer were found, and ``(Q, k)`` float32
            scores, minus infinity there.
        """
        vectors = self.space.project(queries)
        if gone is not None and self.reranker is not None:
            left = np.flatnonzero(~gone)
            if len(left) <= _FEW_LEFT:
                return self._among(self.reranker, vectors, left, k)
        gone = self.removed if gone is None else gone
        if self.reranker is None and isinstance(self.index, faiss.IndexFlat):
            return self._exact(vectors, k, gone)
        found = self.in_parts(vectors, lambda part: self._best(part, k, gone))
        return np.concatenate([p for p, _ in found]), np.concatenate([s for _, s in found])

    def in_parts(
        self, vectors: NDArray[np.float32], work: Callable[[NDArray[np.float32]], T]
    ) -> list[T]:
        """Works on some queries at a time, on all cores: a thread sees each part to its end.

        faiss spreads single searches over the cores, too, but then it waits at the end of each.
        """
        parts = [vectors[start : start + _CHUNK] for start in range(0, len(vectors), _CHUNK)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(usable_cores(), "search", _use_one_core)
        return list(self._pool.map(work, parts))

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def candidates(
        self, vectors: NDArray[np.float32], count: int, gone: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The positions that faiss finds, without those that are left out.

        Args:
            vectors: ``(Q, dim)`` queries in the space.
            count: How many are wanted.
            gone: ``(N,)`` bool, which positions are left out; None if none is.

        Returns:
            ``(Q, count)`` positions in faiss's order, -1 for none, and its measures, higher is
            closer.
        """
        total = self.index.ntotal
        count = min(count, total)
        if gone is None:
            return self._found(vectors, count)
        left = max(int(total - gone.sum()), 1)
        fetched = min(int(1.5 * count * total / left) + count, total)
        while True:
            positions, scores = self._found(vectors, fetched)
            out = gone[np.maximum(positions, 0)] & (positions >= 0)
            enough = (fetched - out.sum(axis=1) >= count) | (positions[:, -1] < 0)
            if enough.all() or fetched == total:
                break
            fetched = min(2 * fetched, total)
        first = np.argsort(out, axis=1, kind="stable")[:, :count]
        positions = np.where(out, -1, positions)
        scores = np.where(out, np.float32(-np.inf), scores)
        return np.take_along_axis(positions, first, 1), np.take_along_axis(scores, first, 1)

    def _among(
        self, reranker: Reranker, vectors: NDArray[np.float32], left: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best of few positions, each compared."""
        rows = np.empty((len(left), reranker.rows.dim), reranker.rows.dtype)
        reranker.rows.take(reranker.order.at(left), rows)
        metric = faiss_metric(self.space.metric)
        measured, nearest = faiss.knn(vectors, self.space.project(rows), k, metric)
        return left[nearest], -measured if self.space.metric == "l2" else measured

    def _exact(
        self, vectors: NDArray[np.float32], k: int, gone: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """One large product, which faiss spreads over the cores, or products with what is left."""
        if gone is None or gone.mean() < _MOST_GONE:
            return self.candidates(vectors, k, gone)
        kept = np.packbits(~gone, bitorder="little")
        params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(kept))
        measured, positions = self.index.search(vectors, k, params=params)
        return positions, -measured if self.space.metric == "l2" else measured

    def _best(
        self, vectors: NDArray[np.float32], k: int, gone: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.reranker is None:
            return self.candidates(vectors, k, gone)
        positions, _ = self.candidates(vectors, max(k, _LEAST_K) * self.params.k_factor, gone)
        scores = self.reranker.scores(vectors, positions)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(positions, best, 1), np.take_along_axis(scores, best, 1)

    def _found(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        measured, positions = self.index.search(vectors, count)
        if self.space.metric == "l2":
            measured = -measured
        return positions, np.where(positions < 0, np.float32(-np.inf), measured)


def _use_one_core() -> None:
    faiss.omp_set_num_threads(1)
