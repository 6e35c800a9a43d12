"""Searches an index: faiss candidates without excluded ones, exact scores, top k."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.errors import IndexCorruptError
from embedkit.index.brute_force import knn
from embedkit.index.faiss_types import set_params
from embedkit.index.rerank_mmap import MmapRerank
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.index.faiss_types import SearchParams
    from embedkit.index.rerank import Reranker
    from embedkit.index.store_rows import StoreRows
    from embedkit.index.vector_space import Space

    _Found = tuple[NDArray[np.int64], NDArray[np.float32]]
    _Find = Callable[[int], _Found]

__all__ = ["Searcher"]

_BLOCK = 1024  # queries whose candidates are held at once
_PARTS = 4  # per core
_FEW_QUERIES = 4
_LEAST_K = 10  # the k that search parameters are tuned for
_MAX_COMPARED = 16384  # remaining rows that are all compared instead of searched
_MAX_EXCLUDED_IN_REFINE = 0.5  # share of rows
_MIN_EXCLUDED_FOR_SELECTOR = 0.8  # share of rows


class Searcher:
    """Searches a faiss index; results are positions.

    Attributes:
        index: The faiss index.
        space: The space of its vectors.
        removed: ``(N,)`` bool, excluded positions; None excludes none.
        params: The search parameters.
        reranker: Rescores candidates exactly; None if faiss's scores are taken.
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
        self._mmap_rerank = None if reranker is None else MmapRerank.of(index, reranker)
        self._pool: ThreadPoolExecutor | None = None
        self.set_params(params)

    def set_params(self, params: SearchParams) -> None:
        """Sets the search parameters."""
        self.params = params
        set_params(self.index, params)

    def search(
        self, queries: NDArray[np.floating], k: int, excluded: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest positions of each query.

        Args:
            queries: ``(Q, D)``, finite, Q at least 1.
            k: From 1 to the number of positions that aren't excluded.
            excluded: ``(N,)`` bool, excluded positions; None excludes ``removed``.

        Returns:
            ``(Q, k)`` positions, best first, -1 where fewer were found, and ``(Q, k)`` float32
            scores, minus infinity there.
        """
        vectors = self.space.project(queries)
        if excluded is not None and self.reranker is not None:
            remaining = np.flatnonzero(~excluded)
            if len(remaining) <= _MAX_COMPARED:
                return self._compare_all(self.reranker, vectors, remaining, k)
        excluded = self.removed if excluded is None else excluded
        if self.reranker is None and isinstance(self.index, faiss.IndexFlat):
            return self._exact(vectors, k, excluded)
        parts = [vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK)]
        found = [self._candidates_and_scores(part, k, excluded) for part in parts]
        return np.concatenate([p for p, _ in found]), np.concatenate([s for _, s in found])

    def close(self) -> None:
        """Stops the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    @property
    def rows(self) -> StoreRows | None:
        """The stores' rows that candidates are rescored with, if any are."""
        return None if self.reranker is None else self.reranker.rows

    def candidates(
        self, vectors: NDArray[np.float32], count: int, excluded: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The positions that faiss finds, without the excluded ones.

        Args:
            vectors: ``(Q, dim)`` queries in the space.
            count: Number of candidates per query.
            excluded: ``(N,)`` bool, excluded positions; None excludes none.

        Returns:
            ``(Q, count)`` positions in faiss's order, -1 for none, and its measures, higher is
            closer.
        """
        count = min(count, self.index.ntotal)
        if excluded is None:
            return self._faiss_search(vectors, count)
        positions, scores = self._remaining(
            lambda wider: self._faiss_search(vectors, wider), count, excluded
        )
        first = np.argsort(positions < 0, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(positions, first, 1), np.take_along_axis(scores, first, 1)

    def _remaining(self, find: _Find, count: int, excluded: NDArray[np.bool_] | None) -> _Found:
        """At least ``count`` results per query that aren't excluded, or all there are.

        The position of an excluded result is -1.
        """
        if excluded is None:
            return find(count)
        total = self.index.ntotal
        remaining = max(int(total - excluded.sum()), 1)
        fetched = min(int(1.5 * count * total / remaining) + count, total)
        while True:
            positions, scores = find(fetched)
            none = positions < 0
            out = excluded[np.maximum(positions, 0)] & ~none
            enough = (fetched - out.sum(axis=1) >= count) | none.any(axis=1)
            if enough.all() or fetched == total:
                break
            fetched = min(2 * fetched, total)
        return np.where(out, -1, positions), np.where(out, np.float32(-np.inf), scores)

    def _compare_all(
        self, reranker: Reranker, vectors: NDArray[np.float32], remaining: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The top k of few remaining positions, each compared with every query."""
        rows = np.empty((len(remaining), reranker.rows.dim), reranker.rows.dtype)
        reranker.rows.take(reranker.order.at(remaining), rows)
        nearest, scores = knn(vectors, self.space.project(rows), k, self.space.metric)
        return remaining[nearest], scores

    def _exact(
        self, vectors: NDArray[np.float32], k: int, excluded: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Exact search of a flat index; a selector is used if most positions are excluded."""
        if excluded is None or excluded.mean() < _MIN_EXCLUDED_FOR_SELECTOR:
            return self.candidates(vectors, k, excluded)
        kept = np.packbits(~excluded, bitorder="little")
        params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(kept))
        measured, positions = self.index.search(vectors, k, params=params)
        return positions, -measured if self.space.metric == "l2" else measured

    def _candidates_and_scores(
        self, vectors: NDArray[np.float32], k: int, excluded: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The top k candidates, rescored if there is a reranker."""
        reranker = self.reranker
        if reranker is None:
            return self.candidates(vectors, k, excluded)
        count = max(k, _LEAST_K) * self.params.k_factor
        mmap_rerank = self._mmap_rerank
        if mmap_rerank is not None and (
            excluded is None or excluded.mean() < _MAX_EXCLUDED_IN_REFINE
        ):
            found = self._remaining(
                lambda wider: mmap_rerank.search(vectors, wider), count, excluded
            )
            return _top_k(k, *found)
        positions, _ = self.candidates(vectors, count, excluded)
        best = np.empty((len(vectors), k), np.int64)
        scores = np.empty((len(vectors), k), np.float32)

        def compare(part: slice) -> None:
            measured = reranker.scores(vectors[part], positions[part])
            best[part], scores[part] = _top_k(k, positions[part], measured)

        self._in_parts(len(vectors), compare)
        return best, scores

    def _in_parts(self, count: int, work: Callable[[slice], None]) -> None:
        """Calls ``work`` with parts of ``count`` queries, on all cores.

        The calling thread does few queries itself: waking a thread takes as long as a query.
        """
        if count <= _FEW_QUERIES:
            work(slice(0, count))
            return
        cores = usable_cores()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(cores, "search", _use_one_core)
        step = -(-count // (_PARTS * cores))
        for _ in self._pool.map(work, [slice(s, s + step) for s in range(0, count, step)]):
            pass  # raises what a part raised

    def _faiss_search(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        measured, positions = self.index.search(vectors, count)
        if positions.size and int(positions.max()) >= self.index.ntotal:  # of lists on disk
            raise IndexCorruptError("the index names rows that it doesn't have; build it again")
        if self.space.metric == "l2":
            measured = -measured
        return positions, np.where(positions < 0, np.float32(-np.inf), measured)


def _top_k(
    k: int, positions: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The top k of each query's candidates; ties are ordered by position."""
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(scores, order, 1)


def _use_one_core() -> None:
    faiss.omp_set_num_threads(1)
