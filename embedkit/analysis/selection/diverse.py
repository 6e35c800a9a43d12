"""Selects rows far from each other: k-center greedy, lazily, in bounded memory.

Source: Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985): the radius is
at most twice the smallest that so many centers can have; used for selection by Sener, Savarese,
"Active learning for convolutional neural networks: a core-set approach" (2018).

Each row has an upper bound of its distance to the selected ones: its distance to those that it was
compared with. Only the rows of the highest bounds are read and compared with the rest, and of them
the farthest is taken while it is farther than the bounds of all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.analysis.selection.quota import Quota
    from embedkit.index.store_rows import StoreRows

__all__ = ["select_diverse"]

_POOL_BYTES = 96 * 2**20  # of float32 rows that are compared at once
_FARTHEST = 2.0  # of all cosine distances
_CENTERS = 1024  # that they are compared with at once


def select_diverse(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    count: int,
    quota: Quota,
    *,
    chosen: NDArray[np.int64],
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Selects one row after the other, each the farthest from those before it.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        count: How many to select.
        quota: Which rows may be selected.
        chosen: Places that were selected before; without any the first row is drawn at random.
        seed: Seed of that.

    Returns:
        Places among ``numbers`` in the order of selection, and their distances (1 - cosine) to the
        nearest one before them, ``(m,)`` float32; 2 for a first row. Of equally far ones the
        lower place comes first.
    """
    return _Farthest(rows, numbers, quota, chosen).select(count, seed)


class _Farthest:
    def __init__(
        self,
        rows: StoreRows,
        numbers: NDArray[np.int64],
        quota: Quota,
        chosen: NDArray[np.int64],
    ) -> None:
        self._rows, self._numbers, self._quota = rows, numbers, quota
        self._bounds = np.full(len(numbers), np.inf, np.float32)
        self._compared = np.zeros(len(numbers), np.int32)  # with so many of the centers
        self._bounds[~quota.allowed] = -np.inf
        self._centers = np.empty((max(len(chosen), 64), rows.dim), np.float32)
        self._size = 0
        for start in range(0, len(chosen), _CENTERS):
            for center in self._read(np.sort(chosen[start : start + _CENTERS])):
                self._add(center)

    def select(self, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        places: list[int] = []
        distances: list[float] = []
        stage = Stage("selecting", count, unit="images")
        if not self._size and count and self._quota.allowed.any():
            allowed = np.flatnonzero(self._quota.allowed)
            first = int(allowed[np.random.default_rng(seed).integers(len(allowed))])
            self._take(first, self._read(np.array([first]))[0])
            places, distances = [first], [_FARTHEST]
            stage.add()
        while len(places) < count and self._quota.allowed.any():
            before = len(places)
            for place, distance in self._round(count - len(places)):
                places.append(place)
                distances.append(distance)
            stage.add(len(places) - before)
        return np.array(places, np.int64), np.array(distances, np.float32)

    def _round(self, count: int) -> list[tuple[int, float]]:
        """Compares the rows of the highest bounds, and takes those that are surely the farthest."""
        pool, outside, first_outside = self._pool()
        units = self._read(pool)
        self._compare(pool, units)
        apart = self._bounds[pool]
        found: list[tuple[int, float]] = []
        while len(found) < count:
            at = int(apart.argmax())  # of equal ones the first, which is the lowest place
            farthest, place = float(apart[at]), int(pool[at])
            is_sure = farthest > outside or (farthest == outside and place < first_outside)
            if not is_sure or farthest == -np.inf:
                break
            found.append((place, farthest))
            center = units[at].copy()
            self._take(place, center)
            np.minimum(apart, np.maximum(1 - units @ center, 0), out=apart)
            apart[~self._quota.allowed[pool]] = -np.inf
        self._bounds[pool] = apart
        self._compared[pool] = self._size
        return found

    def _pool(self) -> tuple[NDArray[np.int64], float, int]:
        """The places of the highest bounds, ascending; the highest other bound, and its place."""
        most = max(_POOL_BYTES // (4 * self._rows.dim), 1)
        bounds = self._bounds
        if len(bounds) <= most:
            return np.flatnonzero(self._quota.allowed), -np.inf, len(bounds)
        least = np.partition(bounds, len(bounds) - most)[len(bounds) - most]
        above = np.flatnonzero(bounds > least)
        equal = np.flatnonzero(bounds == least)
        room = most - len(above)
        pool = np.sort(np.concatenate([above, equal[:room]]))
        pool = pool[self._quota.allowed[pool]]
        if len(equal) > room:
            return pool, float(least), int(equal[room])
        rest = np.where(bounds < least, bounds, -np.inf)
        return pool, float(rest.max()), int(rest.argmax())

    def _compare(self, pool: NDArray[np.int64], units: NDArray[np.float32]) -> None:
        """Brings the bounds of some rows up to date with all centers."""
        apart = self._bounds[pool]
        compared = self._compared[pool]
        for start in range(int(compared.min(initial=self._size)), self._size, _CENTERS):
            stop = min(start + _CENTERS, self._size)
            late = np.flatnonzero(compared < stop)
            if len(late):
                mine = units if len(late) == len(units) else units[late]
                nearest = (mine @ self._centers[start:stop].T).max(axis=1)
                apart[late] = np.minimum(apart[late], np.maximum(1 - nearest, 0))
        self._bounds[pool] = apart

    def _take(self, place: int, center: NDArray[np.float32]) -> None:
        self._bounds[self._quota.take(place)] = -np.inf
        self._add(center)

    def _add(self, center: NDArray[np.float32]) -> None:
        if self._size == len(self._centers):
            self._centers = np.concatenate([self._centers, np.empty_like(self._centers)])
        self._centers[self._size] = center
        self._size += 1

    def _read(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        return unit_rows(self._rows.read(self._numbers[places]))
