"""Metrics of rankings and of counts: precision, recall, average precision, Wilson interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Reliability",
    "average_precision",
    "micro_ap",
    "precision_recall",
    "recall_at_precision",
    "reliability",
    "wilson_interval",
]

_BINS = 10
_Z = 1.959963984540054  # the normal distribution's 97.5% quantile


def precision_recall(
    scores: ArrayLike,
    is_positive: ArrayLike,
    *,
    positives: int | None = None,
    weights: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at every threshold of the scores.

    Args:
        scores: ``(n,)``, higher means more probable; equal scores share one threshold.
        is_positive: ``(n,)`` bool.
        positives: Total number of positives, if some have no score; None counts those given.
        weights: ``(n,)`` number of pairs that each score stands for; None means 1 each.

    Returns:
        ``(t,)`` thresholds, descending, ``(t,)`` precisions and ``(t,)`` recalls.

    Raises:
        ValueError: The shapes differ, a score is NaN, or there are fewer positives than given.
    """
    values, positive = _checked(scores, is_positive)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    given = weight[positive].sum()
    if positives is not None and positives < given:
        raise ValueError(f"{positives} positives in all, but {given:g} are given")
    order = np.argsort(-values, kind="stable")
    values, positive, weight = values[order], positive[order], weight[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    hits, retrieved = np.cumsum(weight * positive)[last], np.cumsum(weight)[last]
    return (
        values[last],
        hits / retrieved,
        hits / max(given if positives is None else positives, 1e-9),
    )


def average_precision(
    scores: ArrayLike, is_positive: ArrayLike, *, positives: int | None = None
) -> float:
    """Average precision: the mean of the precision at each positive, without interpolation.

    Args:
        scores: As ``precision_recall``'s.
        is_positive: As ``precision_recall``'s.
        positives: As ``precision_recall``'s; positives without a score count as not retrieved.

    Returns:
        0 to 1; 0 if there is no positive.

    Source: ``sklearn.metrics.average_precision_score``.
    """
    _, precision, recall = precision_recall(scores, is_positive, positives=positives)
    return float((np.diff(recall, prepend=0) * precision).sum())


def micro_ap(scores: ArrayLike, is_positive: ArrayLike, *, positives: int) -> float:
    """Average precision of the pairs of all queries in one ranking (micro-AP, µAP).

    A score must mean the same for every query, because one ranking holds them all.

    Args:
        scores: ``(n,)``, of pairs of a query and a reference.
        is_positive: ``(n,)`` bool, whether the query is a near-duplicate of the reference.
        positives: Number of positive pairs, retrieved or not.

    Source: Perronnin, Liu, Renders, "A family of contextual measures of similarity between
    distributions" (2009); Douze et al., "The 2021 Image Similarity Dataset and Challenge" (2021).
    """
    return average_precision(scores, is_positive, positives=positives)


def recall_at_precision(
    scores: ArrayLike,
    is_positive: ArrayLike,
    precision: float,
    *,
    positives: int | None = None,
    weights: ArrayLike | None = None,
) -> tuple[float, float]:
    """The highest recall of any threshold with at least this precision.

    Args:
        scores: As ``precision_recall``'s.
        is_positive: As ``precision_recall``'s.
        precision: Minimum precision, above 0 and at most 1.
        positives: As ``precision_recall``'s.
        weights: As ``precision_recall``'s.

    Returns:
        The recall and its threshold; 0 and infinity if no threshold reaches the precision.

    Raises:
        ValueError: ``precision`` is out of its range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
    thresholds, reached, recall = precision_recall(
        scores, is_positive, positives=positives, weights=weights
    )
    enough = np.flatnonzero(reached >= precision)
    if not len(enough):
        return 0.0, float("inf")
    return float(recall[enough[-1]]), float(thresholds[enough[-1]])


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether stated probabilities hold, in bins of them.

    Attributes:
        stated: ``(b,)`` the mean probability in each bin that isn't empty.
        found: ``(b,)`` the share of positives in it.
        weight: ``(b,)`` how many pairs are in it.
    """

    stated: NDArray[np.float64]
    found: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of both, 0 to 1."""
        return float((abs(self.stated - self.found) * self.weight).sum() / self.weight.sum())


def reliability(
    scores: ArrayLike, is_positive: ArrayLike, *, weights: ArrayLike | None = None
) -> Reliability:
    """Compares probabilities with what was found, in ten bins of equal width.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning" (2015).

    Args:
        scores: ``(n,)``, n above 0, from 0 to 1.
        is_positive: ``(n,)`` bool.
        weights: ``(n,)`` number of pairs that each score stands for; None means 1 each.

    Raises:
        ValueError: The shapes differ, there is no score, or one is not from 0 to 1.
    """
    values, positive = _checked(scores, is_positive)
    if not len(values) or values.min() < 0 or values.max() > 1:
        raise ValueError("reliability needs scores, from 0 to 1")
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    total, stated, found = (
        np.bincount(bins, one, _BINS) for one in (weight, weight * values, weight * positive)
    )
    there = total > 0
    return Reliability(
        stated[there] / total[there], found[there] / total[there], total[there].astype(np.float64)
    )


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a proportion.

    Args:
        hits: Number of successes.
        count: Number of trials, at least 1.

    Returns:
        Lower and upper end, from 0 to 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22
    (1927).
    """
    share, z2_n = hits / count, _Z * _Z / count
    middle = (share + z2_n / 2) / (1 + z2_n)
    half = _Z * sqrt(share * (1 - share) / count + z2_n / (4 * count)) / (1 + z2_n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _checked(
    scores: ArrayLike, is_positive: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, positive = np.asarray(scores, np.float64), np.asarray(is_positive, bool)
    if values.ndim != 1 or values.shape != positive.shape:
        raise ValueError(f"{values.shape} scores of {positive.shape} pairs")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return values, positive
