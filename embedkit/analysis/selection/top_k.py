"""The K best candidates per class, updated as candidates stream in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BestPerClass", "Candidates"]

_LEAST_SLACK = 256


class Candidates(NamedTuple):
    """Images and classes that they may serve, sorted by class, then by row.

    Attributes:
        classes: ``(n,)`` int64.
        rows: ``(n,)`` int64.
        scores: ``(n,)`` float32.
    """

    classes: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class BestPerClass:
    """For each of C classes the K candidates of the highest scores; of equal ones the first rows.

    A class's candidates wait in a buffer somewhat longer than K. When it is full, all but the best
    K are dropped, and the K-th best score becomes the class's threshold: what doesn't exceed it
    needn't be offered any more. Memory is ``12 C (K + max(K / 4, 256))`` bytes.

    Args:
        classes: C.
        k: K.
        floor: Candidates must score more than this.

    Attributes:
        thresholds: ``(C,)`` float32; they only rise.
    """

    def __init__(self, classes: int, k: int, floor: float) -> None:
        self._k = k
        self._capacity = k + max(k // 4, _LEAST_SLACK)
        self._scores = np.empty((classes, self._capacity), np.float32)
        self._rows = np.empty((classes, self._capacity), np.int64)
        self._counts = np.zeros(classes, np.int64)
        self.thresholds = np.full(classes, floor, np.float32)

    def add(self, new: Candidates) -> None:
        """Takes candidates whose rows come after all rows that were taken before."""
        counts = np.bincount(new.classes, minlength=len(self._counts))
        ends = np.cumsum(counts)
        full = self._counts + counts > self._capacity
        for number in np.flatnonzero(full).tolist():
            mine = slice(int(ends[number] - counts[number]), int(ends[number]))
            self._replace(number, new.rows[mine], new.scores[mine])
        stays = ~full[new.classes]
        classes = new.classes[stays]
        places = np.arange(len(stays)) - (ends - counts)[new.classes] + self._counts[new.classes]
        self._scores[classes, places[stays]] = new.scores[stays]
        self._rows[classes, places[stays]] = new.rows[stays]
        self._counts[~full] += counts[~full]

    def best(self) -> Candidates:
        """The best K (or as many as there are) of each class: by class, best first."""
        parts = []
        for number, count in enumerate(self._counts.tolist()):
            scores, rows = self._scores[number, :count], self._rows[number, :count]
            order = np.lexsort((rows, -scores))[: self._k]
            parts.append(Candidates(np.full(len(order), number), rows[order], scores[order]))
        return Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _replace(self, number: int, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keeps the best K of what a class has and gets; rows stay in ascending order."""
        had = int(self._counts[number])
        scores = np.concatenate([self._scores[number, :had], scores])
        rows = np.concatenate([self._rows[number, :had], rows])
        least = np.partition(scores, len(scores) - self._k)[len(scores) - self._k]
        keep = scores > least
        equal = np.flatnonzero(scores == least)
        keep[equal[: self._k - np.count_nonzero(keep)]] = True
        self._scores[number, : self._k] = scores[keep]
        self._rows[number, : self._k] = rows[keep]
        self._counts[number] = self._k
        self.thresholds[number] = least
