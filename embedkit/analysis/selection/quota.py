"""Limits how many images of each class may be selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Quota"]


class Quota:
    """Which rows may still be selected: each once, and at most so many of each group.

    Args:
        count: n, the number of rows.
        groups: ``(n,)`` int32, the group of each row; None for no limit.
        limit: Rows per group.

    Attributes:
        allowed: ``(n,)`` bool; changes with ``take``.
    """

    def __init__(self, count: int, groups: NDArray[np.int32] | None, limit: int) -> None:
        self.allowed = np.ones(count, bool)
        self._groups, self._limit = groups, limit
        size = 0 if groups is None else int(groups.max(initial=-1)) + 1
        self._taken = np.zeros(size, np.int64)
        self._members: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def take(self, place: int) -> NDArray[np.int64]:
        """Selects a row.

        Returns:
            The rows that may not be selected any more: it, and its group's if that is full now.
        """
        self.allowed[place] = False
        if self._groups is None:
            return np.array([place])
        group = int(self._groups[place])
        self._taken[group] += 1
        if self._taken[group] != self._limit:
            return np.array([place])
        rest = self._of_group(group)
        self.allowed[rest] = False
        return rest

    def take_all(self, places: Iterable[int]) -> None:
        """Selects rows that were chosen before; they count for their groups."""
        for place in places:
            self.take(place)

    def _of_group(self, group: int) -> NDArray[np.int64]:
        assert self._groups is not None
        if self._members is None:
            order = np.argsort(self._groups, kind="stable")
            counts = np.bincount(self._groups, minlength=len(self._taken))
            self._members = order, np.concatenate([[0], np.cumsum(counts)])
        order, starts = self._members
        return order[starts[group] : starts[group + 1]]
