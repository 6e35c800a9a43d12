"""Measures search times."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.index.faiss_types import SearchParams
    from embedkit.index.manifest import OperatingPoint
    from embedkit.index.searcher import Searcher

__all__ = ["TIMED", "TUNED_K", "Clock", "milliseconds"]

TIMED = 32
"""Queries timed alone; each brings some pages of the store into memory."""

TUNED_K = 10
"""The number of neighbours that searches are tuned for."""

_BATCH = 256  # queries timed together
_ROUNDS = 2


class Clock:
    """Times searches.

    Many queries at once aren't timed as a whole, since each brings pages of the store into memory:
    finding candidates is, and reranking them is assumed to cost each the same.
    """

    def __init__(self, searcher: Searcher, queries: NDArray[np.floating]) -> None:
        self._searcher, self._queries = searcher, queries
        self._vectors = searcher.space.project(queries[:_BATCH])
        self._compare_ms = self._milliseconds_a_candidate() / usable_cores()

    def alone(self, point: OperatingPoint) -> OperatingPoint:
        """A point with the milliseconds for one query alone."""
        self._searcher.set_params(point.params)
        return replace(point, ms=round(milliseconds(self._searcher, self._queries), 4))

    def together(self, settings: Sequence[SearchParams]) -> list[float]:
        """Milliseconds per query in a batch of many.

        Args:
            settings: Of one width; the fewest and the most candidates are timed, and between them
                a candidate costs the same.
        """
        few, most = settings[0], settings[-1]
        base = self._together(few)
        slope = 0.0
        if most.k_factor > few.k_factor:
            slope = max(self._together(most) - base, 0) / (most.k_factor - few.k_factor)
        return [round(base + slope * (one.k_factor - few.k_factor), 4) for one in settings]

    def _together(self, params: SearchParams) -> float:
        searcher = self._searcher
        searcher.set_params(params)
        count = TUNED_K * params.k_factor if searcher.reranker is not None else TUNED_K
        taken = _best_of(lambda: searcher.candidates(self._vectors, count, searcher.removed))
        return 1000 * taken / len(self._vectors) + self._compare_ms * count

    def _milliseconds_a_candidate(self) -> float:
        reranker = self._searcher.reranker
        if reranker is None:
            return 0.0
        vectors, total = self._vectors[:TIMED], self._searcher.index.ntotal
        positions = np.random.default_rng(0).integers(0, total, (len(vectors), 8 * TUNED_K))
        return 1000 * _best_of(lambda: reranker.scores(vectors, positions)) / positions.size


def _best_of(work: Callable[[], object]) -> float:
    """Seconds that it takes, the least of some times."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def milliseconds(searcher: Searcher, queries: NDArray[np.floating]) -> float:
    """Milliseconds for one query alone, the median."""
    times = []
    for number in range(min(TIMED, len(queries))):
        began = time.perf_counter()
        searcher.search(queries[number : number + 1], min(TUNED_K, searcher.index.ntotal))
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))
