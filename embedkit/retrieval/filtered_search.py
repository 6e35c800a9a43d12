"""k-nearest-neighbour search with a filter: searches deeper until k results pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError
from embedkit.types import Neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.index import Index
    from embedkit.retrieval.metadata import StoreMetadata
    from embedkit.retrieval.queries import QueryBatch

__all__ = ["ResultFilter", "filtered_search"]

_MAX_RESULTS = 2**20  # neighbours in memory
_GROWTH = 4  # of the depth, from one attempt to the next


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which neighbours of a query are kept.

    Attributes:
        threshold: Minimum score; None keeps all.
        exclude_self: Whether the query itself and images of the same bytes are left out.
        allowed: ``(N,)`` bool, rows of ``metadata`` that may be found; None allows all.
        metadata: The index's stores; needed with ``allowed``.
    """

    threshold: float | None = None
    exclude_self: bool = False
    allowed: NDArray[np.bool_] | None = None
    metadata: StoreMetadata | None = None

    @property
    def index_mask(self) -> NDArray[np.bool_] | None:
        """``allowed``, if the index can apply it itself; None if it can't or needn't."""
        applies = self.metadata is not None and self.metadata.follows_index
        return self.allowed if applies else None

    @property
    def is_applied_by_index(self) -> bool:
        """Whether all results of the index are kept, but for the threshold."""
        return not self.exclude_self and (self.allowed is None or self.index_mask is not None)

    def first_depth(self, k: int) -> int:
        """Number of neighbours to search for at first, so that k of them are likely to be kept."""
        depth = k + 8 if self.exclude_self else k
        if self.allowed is None or self.index_mask is not None or not self.allowed.any():
            return depth
        return int(1.5 * depth / self.allowed.mean()) + 8

    def keeps(
        self, ids: Sequence[str], query_id: str | None, content_hash: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Which neighbours of one query are kept; the threshold isn't applied here.

        Args:
            ids: n ids of neighbours.
            query_id: The query's id, if the index has the query itself under it.
            content_hash: ``(32,)`` uint8, the query's SHA-256.

        Returns:
            ``(n,)`` bool.

        Raises:
            StoreError: A neighbour is in none of the stores, so that ``allowed`` can't be applied.
        """
        kept = np.ones(len(ids), bool)
        if self.exclude_self:
            kept &= np.fromiter((name != query_id for name in ids), bool, len(ids))
        if self.metadata is None:
            return kept
        rows = self.metadata.rows_of(ids)
        if self.allowed is not None and self.index_mask is None:
            _refuse_unknown(ids, rows)
            kept &= self.allowed[rows]
        if self.exclude_self:
            known = np.flatnonzero(rows >= 0)
            hashes = self.metadata.content_hashes[rows[known]]
            kept[known[(hashes == content_hash).all(axis=1)]] = False
        return kept


def _refuse_unknown(ids: Sequence[str], rows: NDArray[np.int64]) -> None:
    if (rows < 0).any():
        unknown = ids[int(np.argmin(rows))]
        raise StoreError(
            f"{unknown}: is in the index, but in none of its stores: name all stores that the "
            "index was built of (stores=FILE)"
        )


def filtered_search(
    index: Index, queries: QueryBatch, k: int, result_filter: ResultFilter
) -> Neighbors:
    """Finds the k nearest images of each query that a filter keeps.

    Each attempt searches deeper, at last through the whole index, as far as the index itself
    reaches.

    Args:
        index: The index.
        queries: Q queries.
        k: Neighbours per query.
        result_filter: Which neighbours are kept.

    Returns:
        Ids and ``(Q, k)`` float32 scores, best first; NaN where fewer are found.

    Raises:
        ValueError: The queries don't fit the index, or ``k < 1``.
        StoreError: A neighbour is in none of the stores, so that the filter can't be applied.
    """
    if result_filter.is_applied_by_index:
        found = index.search(queries.vectors, k, passing=result_filter.index_mask)
        return _above_threshold(found, result_filter.threshold)
    work = _GrowingSearch(index, queries, k, result_filter)
    pending, depth = work.unfinished(), result_filter.first_depth(k)
    while pending:
        depth = max(k, min(depth, len(index)))
        size = max(1, _MAX_RESULTS // depth)
        parts = [pending[start : start + size] for start in range(0, len(pending), size)]
        pending = [query for part in parts for query in work.attempt(part, depth)]
        depth *= _GROWTH
    return _above_threshold(Neighbors(tuple(work.ids), work.scores), result_filter.threshold)


class _GrowingSearch:
    """The results so far, and the next attempt.

    Attributes:
        ids: The ids of each query's neighbours.
        scores: ``(Q, k)`` float32; NaN where there is no neighbour.
    """

    def __init__(
        self, index: Index, queries: QueryBatch, k: int, result_filter: ResultFilter
    ) -> None:
        self._index, self._queries, self._k, self._filter = index, queries, k, result_filter
        # The id of a row of a store that isn't indexed may be another image's in the index.
        self._has_queries = queries.store is None or index.has_store(queries.store)
        self.ids: list[tuple[str, ...]] = [()] * len(queries.ids)
        self.scores = np.full((len(queries.ids), k), np.nan, np.float32)

    def unfinished(self) -> list[int]:
        """The queries that may have results: all of them, or none if no row is allowed."""
        allowed = self._filter.allowed
        return [] if allowed is not None and not allowed.any() else list(range(len(self.ids)))

    def attempt(self, queries: list[int], depth: int) -> list[int]:
        """Searches for ``depth`` neighbours of some queries.

        Returns:
            The queries that have to be searched deeper.
        """
        vectors, mask = self._queries.vectors[queries], self._filter.index_mask
        found = self._index.search(vectors, depth, passing=mask)
        unfinished = []
        for query, ids, row in zip(queries, found.ids, found.scores, strict=True):
            scores = row[: len(ids)]
            if self._keep(query, ids, scores) < self._k and self._can_grow(scores, depth):
                unfinished.append(query)
        return unfinished

    def _keep(self, query: int, ids: tuple[str, ...], scores: NDArray[np.float32]) -> int:
        """Stores the best results that the filter keeps, and returns their number."""
        query_id = self._queries.ids[query] if self._has_queries else None
        content_hash = self._queries.content_hashes[query]
        best = np.flatnonzero(self._filter.keeps(ids, query_id, content_hash))[: self._k]
        self.ids[query] = tuple(ids[place] for place in best.tolist())
        self.scores[query, : len(best)] = scores[best]
        return len(best)

    def _can_grow(self, scores: NDArray[np.float32], depth: int) -> bool:
        """Whether a search deeper than ``depth`` can find more results to keep."""
        if len(scores) < depth or depth >= len(self._index):
            return False
        threshold = self._filter.threshold
        return threshold is None or bool(scores[-1] >= threshold)


def _above_threshold(found: Neighbors, threshold: float | None) -> Neighbors:
    """Leaves out scores below the threshold; each row of scores is descending."""
    if threshold is None:
        return found
    counts = (found.scores >= threshold).sum(axis=1).tolist()
    ids = tuple(near[:count] for near, count in zip(found.ids, counts, strict=True))
    scores = np.where(found.scores >= threshold, found.scores, np.float32(np.nan))
    return Neighbors(ids, scores)
