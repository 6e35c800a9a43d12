"""Clusters of a sparse graph of scored pairs: average linkage, complete linkage, and stars.

``scipy.cluster.hierarchy.linkage`` isn't used: it resolves ties, which float32 scores often have,
in another order, so that groups would change; and it holds the distances of all pairs.
"""

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
    """Agglomerative clustering: merges the two most similar clusters until none are similar enough.

    The similarity of two clusters is the mean of the scores between them, or the lowest one
    (complete linkage). A pair that isn't among ``edges`` scores 0. Ties go to the lower numbers.

    Args:
        edges: ``(E, 2)`` numbers below ``count``, each pair once.
        scores: ``(E,)``, above 0.
        count: Number of nodes.
        threshold: Clusters merge at this similarity and above.
        complete: Complete linkage instead of average.

    Returns:
        ``(count,)`` the cluster of each node: the lowest number in it.

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
        similarity = clusters.similarity(a, b)
        if similarity < threshold:
            continue
        if similarity < -value:  # a cluster has grown since: the entry was an upper bound
            heapq.heappush(heap, (-similarity, a, b))
            continue
        for c, d in clusters.merge(a, b):
            heapq.heappush(heap, (-clusters.similarity(c, d), min(c, d), max(c, d)))
    return clusters.labels()


class _Clusters:
    """Clusters and the links between them: the sum of the scores, or the lowest (complete)."""

    def __init__(self, count: int, *, complete: bool) -> None:
        self.links: list[dict[int, float]] = [{} for _ in range(count)]
        self._members = [[number] for number in range(count)]
        self._complete = complete

    def similarity(self, a: int, b: int) -> float:
        link = self.links[a][b]
        return link if self._complete else link / (len(self._members[a]) * len(self._members[b]))

    def merge(self, a: int, b: int) -> list[tuple[int, int]]:
        """Merges the cluster with fewer links into the other; returns the links that changed."""
        if len(self.links[a]) < len(self.links[b]):
            a, b = b, a
        kept, absorbed = self.links[a], self.links[b]
        del kept[b], absorbed[a]
        for c in absorbed:
            del self.links[c][b]
        changed = self._intersect(a, absorbed) if self._complete else self._add(a, absorbed)
        absorbed.clear()
        self._members[a] += self._members[b]
        self._members[b] = []
        return changed

    def _add(self, a: int, absorbed: dict[int, float]) -> list[tuple[int, int]]:
        kept = self.links[a]
        for c, link in absorbed.items():
            kept[c] = self.links[c][a] = kept.get(c, 0.0) + link
        return [(a, c) for c in absorbed]

    def _intersect(self, a: int, absorbed: dict[int, float]) -> list[tuple[int, int]]:
        kept = self.links[a]
        for c in [c for c in kept if c not in absorbed]:
            del kept[c], self.links[c][a]
        changed = []
        for c, link in kept.items():
            if absorbed[c] < link:
                kept[c] = self.links[c][a] = absorbed[c]
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
    """Covers a graph by stars, a centre and its neighbours each, the largest star first.

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
        *size, number = heapq.heappop(heap)
        if centre[number] >= 0:
            continue
        if (now := _size(links[number])) != tuple(size):  # some neighbours went to other stars
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
