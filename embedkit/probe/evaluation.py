"""Collects a probe's predictions for test images block by block, and computes their metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.metrics import average_precision
from embedkit.probe.metrics import (
    confusion_matrix,
    digits,
    mean_average_precision,
    measure_classes,
    measure_labels,
    measure_numbers,
    r_squared,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.probe.metrics import Measure
    from embedkit.probe.targets import Targets

__all__ = ["Mistakes", "Predictions"]

_TOP = 5
_WORST, _EXAMPLES = 10, 8


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Test images that a probe was wrong about.

    Attributes:
        title: The class or label.
        note: Its metric for this class or label.
        images: Test row, and what was said of it; the most confident mistakes first.
    """

    title: str
    note: str
    images: tuple[tuple[int, str], ...]


class Predictions:
    """Predictions for n test images; of classes, the best five are kept, of all else all scores.

    Args:
        targets: Targets of the test images.
    """

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._top: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.floating]] = []

    def add(self, scores: NDArray[np.floating]) -> None:
        """Takes the scores, ``(m, C)``, of the next m images."""
        if self._targets.task != "classes":
            self._scores.append(scores)
            return
        best = _best_classes(scores, _TOP)
        self._top.append(best)
        self._scores.append(np.take_along_axis(scores, best[:, :1], axis=1))

    def score(self) -> float:
        """Top-1, mAP or R2."""
        scores, values = np.concatenate(self._scores), np.asarray(self._targets.values)
        if self._targets.task == "classes":
            return float((np.concatenate(self._top)[:, 0] == values).mean())
        if self._targets.task == "multilabel":
            return mean_average_precision(scores, values)
        return r_squared(scores[:, 0], values[:, 0])

    def measures(self, seed: int) -> dict[str, Measure]:
        """Metric name to value; the first is the headline metric."""
        targets, scores = self._targets, np.concatenate(self._scores)
        if targets.task == "classes":
            truth = np.asarray(targets.values, np.int64)
            return measure_classes(np.concatenate(self._top), truth, len(targets.names), seed)
        known = np.asarray(targets.values)
        if targets.task == "multilabel":
            return measure_labels(scores, known, seed)
        return measure_numbers(scores[:, 0], known[:, 0], seed)

    def confusion(self) -> NDArray[np.int64] | None:
        """``(C, C)`` counts, one row per true class; None if the task isn't ``classes``."""
        if self._targets.task != "classes":
            return None
        truth = np.asarray(self._targets.values, np.int64)
        return confusion_matrix(np.concatenate(self._top)[:, 0], truth, len(self._targets.names))

    def mistakes(self) -> tuple[Mistakes, ...]:
        """The worst classes or labels, or the largest errors."""
        if self._targets.task == "classes":
            return self._wrong_classes()
        if self._targets.task == "multilabel":
            return self._wrong_labels()
        return self._wrong_numbers()

    def _wrong_classes(self) -> tuple[Mistakes, ...]:
        truth = np.asarray(self._targets.values, np.int64)
        said, sure = np.concatenate(self._top)[:, 0], np.concatenate(self._scores)[:, 0]
        names, found = self._targets.names, []
        counts = np.bincount(truth, minlength=len(names))
        hits = np.bincount(truth[said == truth], minlength=len(names))
        order = np.argsort(hits / np.maximum(counts, 1), kind="stable").tolist()
        for label in [one for one in order if hits[one] < counts[one]][:_WORST]:
            wrong = np.flatnonzero((truth == label) & (said != label))
            wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:_EXAMPLES]
            images = tuple((int(row), f"{names[said[row]]} {sure[row]:.2f}") for row in wrong)
            note = f"{hits[label]:,} of {counts[label]:,} right"
            found.append(Mistakes(names[label], note, images))
        return tuple(found)

    def _wrong_labels(self) -> tuple[Mistakes, ...]:
        truth, scores = np.asarray(self._targets.values), np.concatenate(self._scores)
        there = np.flatnonzero(truth.any(axis=0)).tolist()
        precisions = {one: average_precision(scores[:, one], truth[:, one]) for one in there}
        found = []
        for label in sorted(there, key=precisions.__getitem__)[:_WORST]:
            without = np.flatnonzero(truth[:, label] == 0)
            wrong = without[np.argsort(-scores[without, label], kind="stable")][:_EXAMPLES]
            images = tuple((int(row), f"not so, but {scores[row, label]:.2f}") for row in wrong)
            note = (
                f"average precision {precisions[label]:.3f}; the highest-scoring images without it"
            )
            found.append(Mistakes(self._targets.names[label], note, images))
        return tuple(found)

    def _wrong_numbers(self) -> tuple[Mistakes, ...]:
        truth = np.asarray(self._targets.values)[:, 0]
        said = np.concatenate(self._scores)[:, 0]
        worst = np.argsort(-np.abs(said - truth), kind="stable")[: _WORST * _EXAMPLES // 2]
        images = tuple(
            (int(row), f"{digits(said[row])}, truly {digits(truth[row])}") for row in worst
        )
        return (Mistakes(self._targets.names[0], "the largest errors", images),)


def _best_classes(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """``(m, count)`` class numbers, best first; equal ones in the classes' order."""
    count = min(count, scores.shape[1])
    if scores.shape[1] > 4 * count:  # all that may be among the best, ties too
        least = -np.partition(-scores, count - 1, axis=1)[:, count - 1 : count]
        scores = np.where(scores >= least, scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
