"""Compares each row with those that come before it in its cluster, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows

__all__ = ["Nearest", "nearest_before"]

_BLOCK_BYTES = 64 * 2**20  # of float32 rows, and of cosines
_MOST_ROWS = 4096


class Nearest(NamedTuple):
    """The most similar earlier row of each row.

    Attributes:
        places: ``(n,)`` int64; -1 for the first row of a cluster.
        cosines: ``(n,)`` float32; -1 for the first row of a cluster.
    """

    places: NDArray[np.int64]
    cosines: NDArray[np.float32]


def nearest_before(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    clusters: NDArray[np.int32],
    order: NDArray[np.int64],
) -> Nearest:
    """For each row, the most similar one of those before it in its cluster.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        clusters: ``(n,)`` their clusters, from 0.
        order: ``(n,)`` all places among ``numbers``, cluster by cluster, in the order that counts.

    Returns:
        By place among ``numbers``. Of equal cosines the one that comes first in the order.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    found = Nearest(np.full(len(numbers), -1, np.int64), np.full(len(numbers), -1, np.float32))
    sizes = np.bincount(clusters)
    ends = np.cumsum(sizes)
    stage = Stage("comparing within clusters", len(numbers), unit="images")
    for start, stop in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
        _compare(found, rows, numbers, order[start:stop], stage)
    return found


def _compare(
    found: Nearest,
    rows: StoreRows,
    numbers: NDArray[np.int64],
    members: NDArray[np.int64],
    stage: Stage,
) -> None:
    """Compares the rows of one cluster, block by block."""
    step = max(1, min(_MOST_ROWS, _BLOCK_BYTES // (4 * rows.dim)))
    for start in range(0, len(members), step):
        mine = members[start : start + step]
        units = _read(rows, numbers[mine])
        for first in range(0, start + 1, step):
            before = members[first : first + step]
            others = units if first == start else _read(rows, numbers[before])
            cosines = units @ others.T
            if first == start:
                cosines[np.triu_indices(len(mine))] = -np.inf
            at = cosines.argmax(axis=1)
            best = cosines[np.arange(len(mine)), at]
            better = best > found.cosines[mine]
            found.places[mine[better]] = before[at[better]]
            found.cosines[mine[better]] = best[better]
        stage.add(len(mine))


def _read(rows: StoreRows, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of unit length in any order, read in the order of the files."""
    order = np.argsort(numbers, kind="stable")
    units = np.empty((len(numbers), rows.dim), np.float32)
    units[order] = unit_rows(rows.read(numbers[order]))
    return units
