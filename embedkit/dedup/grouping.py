"""From pairs to groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["group_rows", "name_groups"]


def group_rows(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The connected components of a graph.

    Args:
        pairs: ``(P, 2)`` row numbers.

    Returns:
        Rows that belong together, ascending; the groups by their first row.
    """
    rows, ends = np.unique(pairs, return_inverse=True)
    if len(rows) == 0:
        return []
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(np.split(rows[order], cuts), key=lambda group: int(group[0]))


def name_groups(
    groups: Sequence[NDArray[np.int64]], ids: Iterable[str]
) -> tuple[tuple[str, ...], ...]:
    """The ids of each group, sorted.

    Args:
        groups: Row numbers.
        ids: All ids, in the rows' order.
    """
    members = {int(row) for group in groups for row in group}
    # One pass: an id alone costs as much to read from a store as thousands in a row.
    names = {row: name for row, name in enumerate(ids) if row in members}
    return tuple(tuple(sorted(names[int(row)] for row in group)) for group in groups)
