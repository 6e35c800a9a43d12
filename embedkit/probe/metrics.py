"""Metrics of predictions, with confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.metrics import average_precision, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "Measure",
    "confusion_matrix",
    "digits",
    "mean_average_precision",
    "measure_classes",
    "measure_labels",
    "measure_numbers",
    "r_squared",
]

_RESAMPLES, _RESAMPLES_OF_RANKINGS = 1000, 200


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric with its 95% confidence interval.

    Attributes:
        value: The metric; shares are from 0 to 1. NaN where it is undefined, such as R2 when
            all targets are equal.
        low: The interval's lower end.
        high: Its upper end.
        interval: The method: ``Wilson`` or ``bootstrap``.
    """

    value: float
    low: float
    high: float
    interval: str


def measure_classes(
    top: NDArray[np.int64], truth: NDArray[np.int64], classes: int, seed: int
) -> dict[str, Measure]:
    """Top-1, top-5 and the mean over classes of their top-1.

    Args:
        top: ``(n, 5)`` class numbers, best first (fewer columns where there are fewer classes).
        truth: ``(n,)`` class numbers.
        classes: C.
        seed: Seed of the bootstrap, which resamples within each class.
    """
    right = top[:, 0] == truth
    found = {"top1": _share(right)}
    if classes > 5:
        found["top5"] = _share((top == truth[:, None]).any(axis=1))
    counts = np.bincount(truth, minlength=classes)
    there = counts > 0
    shares = np.bincount(truth, weights=right, minlength=classes)[there] / counts[there]
    # To draw n_c images of a class again is to draw a binomial number of right ones.
    rng = np.random.default_rng(seed)
    draws = rng.binomial(counts[there], shares, (_RESAMPLES, there.sum())) / counts[there]
    low, high = np.quantile(draws.mean(axis=1), (0.025, 0.975)).tolist()
    found["mean_per_class"] = Measure(float(shares.mean()), low, high, "bootstrap")
    return found


def _share(right: NDArray[np.bool_]) -> Measure:
    hits = int(right.sum())
    return Measure(hits / len(right), *wilson_interval(hits, len(right)), "Wilson")


def confusion_matrix(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """``(C, C)`` counts, a row for each true class and a column for each predicted one."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def mean_average_precision(scores: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """The mean of the average precisions of the labels that an image has; NaN if none has any.

    Args:
        scores: ``(n, C)``.
        truth: ``(n, C)`` 0 and 1.
    """
    there = np.flatnonzero(truth.any(axis=0))
    each = [average_precision(scores[:, label], truth[:, label]) for label in there]
    return float(np.mean(each)) if each else float("nan")


def measure_labels(
    scores: NDArray[np.floating], truth: NDArray[np.floating], seed: int
) -> dict[str, Measure]:
    """The mean over labels of their average precision.

    Args:
        scores: ``(n, C)``.
        truth: ``(n, C)`` 0 and 1; labels that no image has are left out.
        seed: Seed of the bootstrap over images.
    """

    def mean(rows: NDArray[np.intp]) -> float:
        return mean_average_precision(scores[rows], truth[rows])

    return {"mAP": _bootstrap(mean, len(truth), seed, _RESAMPLES_OF_RANKINGS)}


def measure_numbers(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], seed: int
) -> dict[str, Measure]:
    """R2 and the mean absolute error, in the labels' unit.

    Args:
        predicted: ``(n,)``.
        truth: ``(n,)``.
        seed: Seed of the bootstrap over images.
    """
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)

    def r2(rows: NDArray[np.intp]) -> float:
        return r_squared(predicted[rows], truth[rows])

    def mae(rows: NDArray[np.intp]) -> float:
        return float(np.abs(truth[rows] - predicted[rows]).mean())

    return {
        "R2": _bootstrap(r2, len(truth), seed, _RESAMPLES),
        "MAE": _bootstrap(mae, len(truth), seed, _RESAMPLES),
    }


def r_squared(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """The share of the variance that is explained; NaN where there is none.

    Args:
        predicted: ``(n,)``.
        truth: ``(n,)``.
    """
    if truth.min() == truth.max():  # their mean may differ from them by a rounding error
        return float("nan")
    total = float(np.square(truth - truth.mean(dtype=np.float64)).sum(dtype=np.float64))
    residual = float(np.square(truth - predicted).sum(dtype=np.float64))
    return 1 - residual / total if total > 0 else float("nan")


def digits(number: float) -> str:
    """A predicted number as it is shown: ``12.35``; of a large one, as a date, all digits."""
    return f"{number:.10g}" if abs(number) >= 10_000 else f"{number:.4g}"


def _bootstrap(
    measure: Callable[[NDArray[np.intp]], float], count: int, seed: int, resamples: int
) -> Measure:
    rng = np.random.default_rng(seed)
    draws = np.array([measure(rng.integers(0, count, count)) for _ in range(resamples)])
    known = draws[~np.isnan(draws)]
    value = measure(np.arange(count))
    if not len(known):
        return Measure(value, np.nan, np.nan, "bootstrap")
    low, high = np.quantile(known, (0.025, 0.975)).tolist()
    return Measure(value, low, high, "bootstrap")
