"""Selects as many rows of each cluster as there are, at random within a cluster."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.analysis.selection.quota import Quota

__all__ = ["select_balanced"]


def select_balanced(
    clusters: NDArray[np.int32],
    count: int,
    quota: Quota,
    *,
    chosen: NDArray[np.int64],
    seed: int,
) -> NDArray[np.int64]:
    """Selects one row after the other, each of the cluster that has the fewest selected ones.

    Args:
        clusters: ``(n,)`` the cluster of each row.
        count: How many to select.
        quota: Which rows may be selected.
        chosen: Places that were selected before; they count for their clusters.
        seed: Seed of the order within the clusters.

    Returns:
        Places in the order of selection. Of equally filled clusters the lower number comes first.
    """
    mixed = np.random.default_rng(seed).permutation(len(clusters))
    order = mixed[np.argsort(clusters[mixed], kind="stable")]
    sizes = np.bincount(clusters)
    ends = np.cumsum(sizes)
    at = (ends - sizes).tolist()
    filled = np.bincount(clusters[chosen], minlength=len(sizes)).tolist()
    waiting = [(filled[number], number) for number in range(len(sizes))]
    heapq.heapify(waiting)
    places: list[int] = []
    while waiting and len(places) < count:
        taken, number = heapq.heappop(waiting)
        while at[number] < ends[number] and not quota.allowed[order[at[number]]]:
            at[number] += 1
        if at[number] == ends[number]:
            continue
        place = int(order[at[number]])
        places.append(place)
        quota.take(place)
        heapq.heappush(waiting, (taken + 1, number))
    return np.array(places, np.int64)
