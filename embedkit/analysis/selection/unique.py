"""Selects the rows that are least like any other, exactly.

The neighbors of a kNN graph are nearly always the nearest, and never nearer than those: they bound
the distance from above. So only the rows of the highest bounds are compared with all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.analysis.selection.quota import Quota
    from embedkit.index.graph_passes import GraphPasses
    from embedkit.index.knn_graph import NeighborGraph

__all__ = ["select_unique"]

_COMPARED = 4096  # rows at once, at most
_ROUNDING = 1e-5  # of a cosine, by the order of its sum


def select_unique(
    passes: GraphPasses, graph: NeighborGraph, count: int, quota: Quota
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Selects the rows with the greatest distance to their nearest other row.

    Args:
        passes: Reads the n rows.
        graph: Neighbors of each row, one or more.
        count: How many to select.
        quota: Which rows may be selected.

    Returns:
        Places among the rows, the most unlike first, and their distances (1 - cosine), ``(m,)``
        float32. Of equal ones the lower place comes first.
    """
    near = (
        graph.cosines[:, 0]
        if graph.cosines.shape[1]
        else np.full(len(graph.cosines), -1, np.float32)
    )
    order = np.argsort(near, kind="stable")
    order = order[quota.allowed[order]]
    exact: dict[int, float] = {}
    scores: dict[int, float] = {}
    places: list[int] = []
    compared = 0
    while len(places) < count and (compared < len(order) or exact):
        some = order[compared : compared + min(max(2 * count, 256), _COMPARED)]
        if len(some):
            cosines = passes.nearest_others(some)
            exact.update(zip(some.tolist(), cosines.tolist(), strict=True))
            compared += len(some)
        rest = float(near[order[compared]]) - _ROUNDING if compared < len(order) else np.inf
        for place in sorted(exact, key=lambda place: (exact[place], place)):
            if len(places) == count or exact[place] >= rest:
                break
            cosine = exact.pop(place)
            if quota.allowed[place]:
                places.append(place)
                quota.take(place)
                scores[place] = cosine
    return (
        np.array(places, np.int64),
        np.array([1 - scores[place] for place in places], np.float32),
    )
