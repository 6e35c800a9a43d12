"""Tuning: measures recall and time of search settings on held-out queries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.brute_force import recall_at
from embedkit.index.faiss_types import SearchParams, is_exact, layers, search_grid
from embedkit.index.manifest import OperatingPoint
from embedkit.index.score_cache import ScoreCache
from embedkit.index.timing import TIMED, TUNED_K, Clock, milliseconds
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import faiss
    from numpy.typing import NDArray

    from embedkit.index.rerank import Reranker
    from embedkit.index.searcher import Searcher
    from embedkit.index.store_rows import StoreRows

__all__ = ["choose_point", "exact_point", "measure_frontier", "needs_tuning"]

_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_DOUBT = 0.005  # margin: recall of other queries may be lower by this much
_ENOUGH = 0.999  # recall above which a wider search isn't measured


def needs_tuning(index: faiss.Index, *, rerank: bool) -> bool:
    """Whether there are search parameters to tune (an exact index has none)."""
    return rerank or not is_exact(index) or len(search_grid(index)) > 1


def measure_frontier(
    searcher: Searcher,
    judge: Reranker,
    queries: NDArray[np.floating],
    true: NDArray[np.float32],
) -> list[OperatingPoint]:
    """Measures settings from the smallest to the largest search width, until recall saturates.

    Args:
        searcher: What searches; its setting changes.
        judge: Gives the exact scores of what was found.
        queries: ``(Q, D)`` none of which is in the index.
        true: ``(Q, 10)`` exact scores of their nearest rows, best first.

    Returns:
        The settings that no other one beats in both recall@10 and time, the fastest first.
    """
    points: list[OperatingPoint] = []
    widths = search_grid(searcher.index)
    scores = ScoreCache(judge, searcher.space.project(queries))
    clock = Clock(searcher, queries)
    last = -1.0
    for width in track(widths, "tuning", len(widths), unit="settings"):
        found = list(_measure_width(searcher, scores, clock, true, width))
        points += found
        reached = max(point.recall_at_10 for point in found)
        if reached >= _ENOUGH or (reached >= 0.99 and reached - last < 1e-4):
            break
        last = reached
    return [clock.alone(point) for point in _unbeaten(points)]


def exact_point(searcher: Searcher, rows: StoreRows) -> list[OperatingPoint]:
    """What an exact index costs; what it finds needs no measuring. Nothing for an empty one."""
    if not len(rows):
        return []
    queries = rows.read(np.arange(min(TIMED, len(rows))))
    return [OperatingPoint(SearchParams(), 1.0, 1.0, round(milliseconds(searcher, queries), 4))]


def choose_point(
    points: Sequence[OperatingPoint], recall: float, latency: float | None
) -> OperatingPoint:
    """The fastest setting that reaches the target recall, or else the one nearest to it.

    Args:
        points: Measured settings; at least one.
        recall: Target recall@10.
        latency: Maximum milliseconds per query, if limited; recall takes precedence.
    """
    for least in (recall + _DOUBT, recall):
        if good := [point for point in points if point.recall_at_10 >= least]:
            return min(good, key=lambda point: point.cost)
    quick = [point for point in points if latency is None or point.ms <= latency]
    return max(quick or points, key=lambda point: point.recall_at_10)


def _measure_width(
    searcher: Searcher,
    exact: ScoreCache,
    clock: Clock,
    true: NDArray[np.float32],
    width: SearchParams,
) -> Iterator[OperatingPoint]:
    """Measures one width with every number of candidates: all are the first of the most."""
    own_refine = any(hasattr(layer, "k_factor") for layer in layers(searcher.index))
    factors = _factors(searcher) if searcher.reranker is not None or own_refine else [1]
    settings = [SearchParams(width.nprobe, width.ef_search, factor) for factor in factors]
    times = clock.together(settings)
    scores, last = None, -1.0
    for factor, params, batch_ms in zip(factors, settings, times, strict=True):
        searcher.set_params(params)
        if scores is None or own_refine:
            scores = exact.of_found(searcher, TUNED_K if own_refine else TUNED_K * factors[-1])
        best = -np.sort(-scores[:, : TUNED_K if own_refine else TUNED_K * factor], axis=1)
        recall = recall_at(TUNED_K, best, true)
        if recall == last:
            return  # more candidates don't improve recall
        last = recall
        first = round(recall_at(1, best, true), 4)
        yield OperatingPoint(params, first, round(recall, 4), math.nan, batch_ms)


def _factors(searcher: Searcher) -> list[int]:
    """Candidates per requested neighbour, up to an eighth of all rows."""
    most = searcher.index.ntotal // (8 * TUNED_K)
    return [factor for factor in _FACTORS if factor <= max(most, 1)]


def _unbeaten(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    kept: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.recall_at_10)):
        if not kept or point.recall_at_10 > kept[-1].recall_at_10:
            kept.append(point)
    return kept
