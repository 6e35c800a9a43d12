"""Cutting a sparse graph into clusters: average and complete linkage, and stars."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["agglomerate", "cover_by_stars"]


def agglomerate(
    edges: NDArray[np.int64],
    scores: NDArray[np.float32],
    count: int,
    threshold: float,
    *,
    complete: bool,
) -> NDArray[np.int64]:
    """Merges the two closest clusters again and again, until none are close enough.

    Two clusters are as close as the average of the scores between them, or as the least one
    (complete linkage). A pair that isn't among ``edges`` scores 0. Ties go to the lower numbers.
    The work grows with the edges (times their logarithm), not with ``count`` squared.

    Args:
        edges: ``(E, 2)`` numbers below ``count``, each pair once.
        scores: ``(E,)``, above 0.
        count: How many there are to cluster.
        threshold: Clusters merge at this closeness and above.
        complete: Complete linkage instead of average.

    Returns:
        ``(count,)`` cluster of each: the lowest number in it.

    Source: the lazy-heap form of the agglomerative algorithm, Müllner, arXiv 1109.2378, section 3.
    """
    clusters = _Clusters(count, complete=complete)
    heap = []
    for (a, b), score in zip(edges.tolist(), scores.tolist(), strict=True):
        clusters.links[a][b] = clusters.links[b][a] = score
        heap.append((-score, min(a, b), max(a, b)))
    heapq.heapify(heap)
    while heap:
        value, a, b = heapq.heappop(heap)
        if b not in clusters.links[a]:
            continue  # one of them is in another cluster by now
        closeness = clusters.closeness(a, b)
        if closeness < threshold:
            continue
        if closeness < -value:  # a cluster has grown since: the entry was an upper bound
            heapq.heappush(heap, (-closeness, a, b))
            continue
        for c, d in clusters.merge(a, b):
            heapq.heappush(heap, (-clusters.closeness(c, d), min(c, d), max(c, d)))
    return clusters.labels()


class _Clusters:
    """Clusters and what links them: the sum of the scores, or the least for complete linkage."""

    def __init__(self, count: int, *, complete: bool) -> None:
        self.links: list[dict[int, float]] = [{} for _ in range(count)]
        self._members = [[number] for number in range(count)]
        self._complete = complete

    def closeness(self, a: int, b: int) -> float:
        link = self.links[a][b]
        return link if self._complete else link / (len(self._members[a]) * len(self._members[b]))

    def merge(self, a: int, b: int) -> list[tuple[int, int]]:
        """Puts the one with fewer links into the other; gives the links that changed."""
        if len(self.links[a]) < len(self.links[b]):
            a, b = b, a
        kept, gone = self.links[a], self.links[b]
        del kept[b], gone[a]
        for c in gone:
            del self.links[c][b]
        changed = self._intersect(a, gone) if self._complete else self._add(a, gone)
        gone.clear()
        self._members[a] += self._members[b]
        self._members[b] = []
        return changed

    def _add(self, a: int, gone: dict[int, float]) -> list[tuple[int, int]]:
        kept = self.links[a]
        for c, link in gone.items():
            kept[c] = self.links[c][a] = kept.get(c, 0.0) + link
        return [(a, c) for c in gone]

    def _intersect(self, a: int, gone: dict[int, float]) -> list[tuple[int, int]]:
        kept = self.links[a]
        for c in [c for c in kept if c not in gone]:
            del kept[c], self.links[c][a]
        changed = []
        for c, link in kept.items():
            if gone[c] < link:
                kept[c] = self.links[c][a] = gone[c]
                changed.append((a, c))
        return changed

    def labels(self) -> NDArray[np.int64]:
        out = np.empty(len(self._members), np.int64)
        for members in self._members:
            out[members] = min(members, default=0)
        return out


def cover_by_stars(
    edges: NDArray[np.int64], scores: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Stars: a centre and those that are linked to it, the largest star first.

    The next centre is the one with the most neighbours that are in no star yet, at a tie the one
    whose neighbours score higher in all, then the lower number. A neighbour of two centres goes to
    the first.

    Args:
        edges: ``(E, 2)`` numbers below ``count``, each pair once.
        scores: ``(E,)``.
        count: How many there are.

    Returns:
        ``(count,)`` the centre of each one's star; those without a star are their own.
    """
    links: list[dict[int, float]] = [{} for _ in range(count)]
    for (a, b), score in zip(edges.tolist(), scores.tolist(), strict=True):
        links[a][b] = links[b][a] = score
    centre = np.full(count, -1, np.int64)
    heap = [(*_size(links[number]), number) for number in range(count)]
    heapq.heapify(heap)
    while heap:
        *told, number = heapq.heappop(heap)
        if centre[number] >= 0:
            continue
        if (now := _size(links[number])) != tuple(told):  # some neighbours went to other stars
            heapq.heappush(heap, (*now, number))
            continue
        star = [number, *links[number]]
        centre[star] = number
        for member in star:
            for other in links[member]:
                links[other].pop(member, None)
    return centre


def _size(neighbours: dict[int, float]) -> tuple[int, float]:
    """Sorts larger stars first."""
    return -len(neighbours), -sum(neighbours.values())
