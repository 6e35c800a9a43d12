"""How good a ranking of scored pairs is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["average_precision", "micro_ap", "precision_recall", "recall_at_precision"]


def precision_recall(
    scores: ArrayLike,
    is_positive: ArrayLike,
    *,
    positives: int | None = None,
    weights: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of all that scores at least a threshold, for every threshold.

    Args:
        scores: ``(n,)``, higher is likelier; equal ones are taken together.
        is_positive: ``(n,)`` bool.
        positives: How many there are in all, where some have no score; None counts those given.
        weights: ``(n,)`` how many pairs each stands for; None is one.

    Returns:
        ``(t,)`` thresholds, descending, ``(t,)`` precisions and ``(t,)`` recalls.

    Raises:
        ValueError: The shapes differ, a score is NaN, or there are fewer positives than given.
    """
    values, wanted = _checked(scores, is_positive)
    each = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    given = each[wanted].sum()
    if positives is not None and positives < given:
        raise ValueError(f"{positives} positives in all, but {given:g} are given")
    order = np.argsort(-values, kind="stable")
    values, wanted, each = values[order], wanted[order], each[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    hits, taken = np.cumsum(each * wanted)[last], np.cumsum(each)[last]
    return values[last], hits / taken, hits / max(given if positives is None else positives, 1e-9)


def average_precision(
    scores: ArrayLike, is_positive: ArrayLike, *, positives: int | None = None
) -> float:
    """The mean over the positives of the precision at each, a step curve without interpolation.

    Args:
        scores: As ``precision_recall``'s.
        is_positive: As ``precision_recall``'s.
        positives: As ``precision_recall``'s; those without a score count as never found.

    Returns:
        0 to 1; 0 where there is no positive.

    Source: ``sklearn.metrics.average_precision_score``.
    """
    _, precision, recall = precision_recall(scores, is_positive, positives=positives)
    return float((np.diff(recall, prepend=0) * precision).sum())


def micro_ap(scores: ArrayLike, is_positive: ArrayLike, *, positives: int) -> float:
    """Average precision of all pairs of all queries in one ranking.

    So a score must mean the same for every query, as it must for one threshold to serve all.

    Args:
        scores: ``(n,)``, of pairs of a query and a reference.
        is_positive: ``(n,)`` bool, whether the query is a copy of the reference.
        positives: How many such pairs there are, found or not.

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
    """The highest recall that some threshold reaches with at least this precision.

    Args:
        scores: As ``precision_recall``'s.
        is_positive: As ``precision_recall``'s.
        precision: The least precision, above 0 and at most 1.
        positives: As ``precision_recall``'s.
        weights: As ``precision_recall``'s.

    Returns:
        The recall and its threshold; 0 and infinity where no threshold is precise enough.

    Raises:
        ValueError: ``precision`` is out of its range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
    thresholds, found, recall = precision_recall(
        scores, is_positive, positives=positives, weights=weights
    )
    enough = np.flatnonzero(found >= precision)
    if not len(enough):
        return 0.0, float("inf")
    return float(recall[enough[-1]]), float(thresholds[enough[-1]])


def _checked(
    scores: ArrayLike, is_positive: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, wanted = np.asarray(scores, np.float64), np.asarray(is_positive, bool)
    if values.ndim != 1 or values.shape != wanted.shape:
        raise ValueError(f"{values.shape} scores of {wanted.shape} pairs")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return values, wanted
