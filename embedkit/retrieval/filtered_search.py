"""Searching deeper until enough neighbours are found that may stay."""

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
    from embedkit.retrieval.metadata import Catalog
    from embedkit.retrieval.queries import QueryBatch

__all__ = ["Sieve", "search_through"]

_AT_ONCE = 2**20  # neighbours
_DEEPER = 4  # times, from one attempt to the next


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which neighbours of a query may stay.

    Attributes:
        threshold: The least score; None is any.
        exclude_self: Whether the query's own id goes, and what has the same bytes.
        passing: ``(N,)`` rows of the catalog that pass the filters; None if there is no filter.
        catalog: What is known of the images; needed for ``passing`` only.
    """

    threshold: float | None = None
    exclude_self: bool = False
    passing: NDArray[np.bool_] | None = None
    catalog: Catalog | None = None

    @property
    def is_open(self) -> bool:
        """Whether what the index finds may stay, but for the threshold."""
        return not self.exclude_self and (self.passing is None or self.for_index is not None)

    @property
    def for_index(self) -> NDArray[np.bool_] | None:
        """What the index itself is told to let pass; None if it can't be told."""
        follows = self.catalog is not None and self.catalog.follows_index
        return self.passing if follows else None

    def first_depth(self, k: int) -> int:
        """How deep to search at first so that k neighbours are likely to stay."""
        depth = k + 8 if self.exclude_self else k
        if self.passing is None or self.for_index is not None or not self.passing.any():
            return depth
        return int(1.5 * depth / self.passing.mean()) + 8

    def may_stay(
        self, ids: Sequence[str], query_id: str, content_hash: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Which of n neighbours may stay, ``(n,)``; the threshold is another's business.

        Raises:
            StoreError: There is a filter, and a neighbour is in none of the stores.
        """
        stay = np.ones(len(ids), bool)
        if self.exclude_self:
            stay &= np.fromiter((name != query_id for name in ids), bool, len(ids))
        if self.catalog is None:
            return stay
        rows = self.catalog.rows_of(ids)
        if self.passing is not None and self.for_index is None:
            stay &= self._pass(ids, rows)
        if self.exclude_self:
            known = np.flatnonzero(rows >= 0)
            theirs = self.catalog.content_hashes[rows[known]]
            stay[known[(theirs == content_hash).all(axis=1)]] = False
        return stay

    def _pass(self, ids: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.passing is None:
            return np.ones(len(ids), bool)
        if (rows < 0).any():
            unknown = ids[int(np.argmin(rows))]
            raise StoreError(
                f"{unknown}: is in the index, but in none of its stores: name all stores that the "
                "index was built of (--store)"
            )
        return self.passing[rows]


def search_through(index: Index, queries: QueryBatch, k: int, sieve: Sieve) -> Neighbors:
    """Finds the k nearest images of each query that may stay, exactly as deep as it takes.

    Each attempt goes deeper, at last through the whole index, as far as the index itself reaches.

    Args:
        index: The index.
        queries: Q queries.
        k: How many to find.
        sieve: Which may stay.

    Raises:
        ValueError: The queries don't fit the index, or ``k < 1``.
        StoreError: There is a filter, and a neighbour is in none of the stores.
    """
    if sieve.is_open:
        found = index.search(queries.vectors, k, passing=sieve.for_index)
        return _cut(found, sieve.threshold)
    work = _Deepening(index, queries, k, sieve)
    pending, depth = work.unfinished(), sieve.first_depth(k)
    while pending:
        depth = max(k, min(depth, len(index)))
        at_once = max(1, _AT_ONCE // depth)
        parts = [pending[start : start + at_once] for start in range(0, len(pending), at_once)]
        pending = [query for part in parts for query in work.attempt(part, depth)]
        depth *= _DEEPER
    return _cut(Neighbors(tuple(work.ids), work.scores), sieve.threshold)


class _Deepening:
    """What is found so far, and the next attempt.

    Attributes:
        ids: Of each query's neighbours.
        scores: ``(Q, k)``; NaN where there is none.
    """

    def __init__(self, index: Index, queries: QueryBatch, k: int, sieve: Sieve) -> None:
        self._index, self._queries, self._k, self._sieve = index, queries, k, sieve
        self.ids: list[tuple[str, ...]] = [()] * len(queries.ids)
        self.scores = np.full((len(queries.ids), k), np.nan, np.float32)

    def unfinished(self) -> list[int]:
        """The queries that there may be something for: all or none."""
        passing = self._sieve.passing
        return [] if passing is not None and not passing.any() else list(range(len(self.ids)))

    def attempt(self, queries: list[int], depth: int) -> list[int]:
        """Searches ``depth`` deep for some queries; gives those that have to go deeper."""
        vectors, passing = self._queries.vectors[queries], self._sieve.for_index
        found = self._index.search(vectors, depth, passing=passing)
        rest = []
        for query, ids, row in zip(queries, found.ids, found.scores, strict=True):
            scores = row[: len(ids)]
            if self._keep(query, ids, scores) < self._k and self._goes_on(scores, depth):
                rest.append(query)
        return rest

    def _keep(self, query: int, ids: tuple[str, ...], scores: NDArray[np.float32]) -> int:
        """Keeps the best that may stay; tells how many they are."""
        own, content = self._queries.ids[query], self._queries.content_hashes[query]
        best = np.flatnonzero(self._sieve.may_stay(ids, own, content))[: self._k]
        self.ids[query] = tuple(ids[place] for place in best.tolist())
        self.scores[query, : len(best)] = scores[best]
        return len(best)

    def _goes_on(self, scores: NDArray[np.float32], depth: int) -> bool:
        """Whether searching deeper than ``depth`` can find more that may stay."""
        if len(scores) < depth or depth >= len(self._index):
            return False
        threshold = self._sieve.threshold
        return threshold is None or bool(scores[-1] >= threshold)


def _cut(found: Neighbors, threshold: float | None) -> Neighbors:
    """Leaves out what scores less than the threshold; scores fall from left to right."""
    if threshold is None:
        return found
    enough = (found.scores >= threshold).sum(axis=1).tolist()
    ids = tuple(near[:count] for near, count in zip(found.ids, enough, strict=True))
    scores = np.where(found.scores >= threshold, found.scores, np.float32(np.nan))
    return Neighbors(ids, scores)
