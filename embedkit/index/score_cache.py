"""Caches exact scores of candidates while the search is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.rerank import Reranker
    from embedkit.index.searcher import Searcher

__all__ = ["ScoreCache"]


class ScoreCache:
    """The exact scores of candidates: each pair is computed only once."""

    def __init__(self, judge: Reranker, vectors: NDArray[np.float32]) -> None:
        self._judge, self._vectors = judge, vectors
        self._pairs = np.empty(0, np.int64)  # query * positions + position, ascending
        self._known = np.empty(0, np.float32)

    def of_found(self, searcher: Searcher, count: int) -> NDArray[np.float32]:
        """``(Q, count)`` scores of each query's candidates, in the order they are found in."""
        positions, _ = searcher.candidates(self._vectors, count, searcher.removed)
        pairs = positions + np.arange(len(positions))[:, None] * searcher.index.ntotal
        self._learn(positions, pairs)
        scores = np.full(positions.shape, -np.inf, np.float32)
        there = positions >= 0
        scores[there] = self._known[np.searchsorted(self._pairs, pairs[there])]
        return scores

    def _learn(self, positions: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
        new = (positions >= 0) & ~np.isin(pairs, self._pairs)
        first = np.argsort(~new, axis=1, kind="stable")[:, : max(int(new.sum(axis=1).max()), 1)]
        positions, pairs = (np.take_along_axis(all_, first, 1) for all_ in (positions, pairs))
        new = np.take_along_axis(new, first, 1)
        unscored = np.where(new, positions, -1)
        scores = self._judge.scores(self._vectors, unscored, mapped=False)
        pairs = np.concatenate([self._pairs, pairs[new]])
        order = np.argsort(pairs)
        self._pairs, self._known = pairs[order], np.concatenate([self._known, scores[new]])[order]
