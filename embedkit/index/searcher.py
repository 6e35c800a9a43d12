"""Searching: candidates from faiss, those that were removed left out, exact scores, the best k."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import faiss_metric, set_params
from embedkit.index.rerank_mmap import InPlace
from embedkit.utils.parallel import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.index.faiss_types import SearchParams
    from embedkit.index.rerank import Reranker
    from embedkit.index.vector_space import Space

    _Found = tuple[NDArray[np.int64], NDArray[np.float32]]
    _Find = Callable[[int], _Found]

__all__ = ["Searcher"]

_BLOCK = 1024  # queries whose candidates are held at once
_PARTS = 4  # that each core works on, one after the other
_FEW = 4
_LEAST_K = 10  # the k that searches are tuned for
_FEW_LEFT = 16384  # rows that are rather all compared than looked for
_MANY_GONE = 0.5  # share of rows from which not every candidate is compared in place
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
        self._in_place = None if reranker is None else InPlace.of(index, reranker)
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
        parts = [vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK)]
        found = [self._best(part, k, gone) for part in parts]
        return np.concatenate([p for p, _ in found]), np.concatenate([s for _, s in found])

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
        count = min(count, self.index.ntotal)
        if gone is None:
            return self._found(vectors, count)
        positions, scores = self._left(lambda wider: self._found(vectors, wider), count, gone)
        first = np.argsort(positions < 0, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(positions, first, 1), np.take_along_axis(scores, first, 1)

    def _left(self, find: _Find, count: int, gone: NDArray[np.bool_] | None) -> _Found:
        """What is found without those that are left out: ``count`` of each query, or more, or all.

        Where one is left out stands -1.
        """
        if gone is None:
            return find(count)
        total = self.index.ntotal
        left = max(int(total - gone.sum()), 1)
        fetched = min(int(1.5 * count * total / left) + count, total)
        while True:
            positions, scores = find(fetched)
            none = positions < 0
            out = gone[np.maximum(positions, 0)] & ~none
            enough = (fetched - out.sum(axis=1) >= count) | none.any(axis=1)
            if enough.all() or fetched == total:
                break
            fetched = min(2 * fetched, total)
        return np.where(out, -1, positions), np.where(out, np.float32(-np.inf), scores)

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
        """The best candidates, compared anew if there is a reranker."""
        reranker = self.reranker
        if reranker is None:
            return self.candidates(vectors, k, gone)
        count = max(k, _LEAST_K) * self.params.k_factor
        in_place = self._in_place
        if in_place is not None and (gone is None or gone.mean() < _MANY_GONE):
            found = self._left(lambda wider: in_place.search(vectors, wider), count, gone)
            return _first(k, *found)
        positions, _ = self.candidates(vectors, count, gone)
        best = np.empty((len(vectors), k), np.int64)
        scores = np.empty((len(vectors), k), np.float32)

        def compare(part: slice) -> None:
            measured = reranker.scores(vectors[part], positions[part])
            best[part], scores[part] = _first(k, positions[part], measured)

        self._in_parts(len(vectors), compare)
        return best, scores

    def _in_parts(self, count: int, work: Callable[[slice], None]) -> None:
        """Works on some of ``count`` queries at a time, on all cores.

        Waking a thread takes as long as a query, so the caller's does few queries itself.
        """
        if count <= _FEW:
            work(slice(0, count))
            return
        cores = usable_cores()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(cores, "search", _use_one_core)
        step = -(-count // (_PARTS * cores))
        for _ in self._pool.map(work, [slice(s, s + step) for s in range(0, count, step)]):
            pass  # raises what a part raised

    def _found(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        measured, positions = self.index.search(vectors, count)
        if self.space.metric == "l2":
            measured = -measured
        return positions, np.where(positions < 0, np.float32(-np.inf), measured)


def _first(
    k: int, positions: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best k of each query's candidates; of equal ones the first position."""
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(scores, order, 1)


def _use_one_core() -> None:
    faiss.omp_set_num_threads(1)
