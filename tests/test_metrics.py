"""The metrics agree with scikit-learn, and with a count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve

from embedkit.metrics import (
    average_precision,
    micro_ap,
    precision_recall,
    recall_at_precision,
    reliability,
    wilson_interval,
)

RANKED = st.lists(st.tuples(st.integers(-3, 8), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=200)
@given(RANKED.filter(lambda pairs: any(wanted for _, wanted in pairs)))
def test_as_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, wanted = (list(column) for column in zip(*pairs, strict=True))
    assert average_precision(scores, wanted) == pytest.approx(
        average_precision_score(wanted, scores), abs=1e-12
    )
    thresholds, precision, recall = precision_recall(scores, wanted)
    other_precision, other_recall, other_thresholds = precision_recall_curve(wanted, scores)
    np.testing.assert_allclose(thresholds[::-1], other_thresholds)
    np.testing.assert_allclose(precision[::-1], other_precision[:-1])
    np.testing.assert_allclose(recall[::-1], other_recall[:-1])


@settings(max_examples=100)
@given(RANKED, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_recall_at_precision_is_the_best_of_all_thresholds(
    pairs: list[tuple[int, bool]], least: float
) -> None:
    scores, wanted = (np.array(column) for column in zip(*pairs, strict=True))
    best = 0.0, math.inf
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        if wanted[taken].mean() >= least:
            best = wanted[taken].sum() / max(wanted.sum(), 1), threshold
    assert recall_at_precision(scores, wanted, least) == pytest.approx(best)


def test_positives_without_a_score_are_not_found() -> None:
    scores, wanted = [0.9, 0.8, 0.7], [True, False, True]
    assert micro_ap(scores, wanted, positives=4) == pytest.approx((1 + 2 / 3) / 4)
    assert recall_at_precision(scores, wanted, 1.0, positives=4) == (0.25, 0.9)
    assert recall_at_precision(scores, wanted, 0.6, positives=4) == (0.5, 0.7)


def test_nothing_is_ranked() -> None:
    assert micro_ap([], [], positives=3) == 0
    assert average_precision([1.0], [False]) == 0
    assert recall_at_precision([], [], 0.9) == (0, math.inf)


@pytest.mark.parametrize("precision", [0, 1.1, float("nan")])
def test_bad_precision(precision: float) -> None:
    with pytest.raises(ValueError, match="precision must be"):
        recall_at_precision([1.0], [True], precision)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="NaN"):
        average_precision([float("nan")], [True])
    with pytest.raises(ValueError, match=r"\(2,\) scores of \(1,\)"):
        average_precision([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="1 positives in all, but 2"):
        micro_ap([1.0, 2.0], [True, True], positives=1)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 10), (970, 1000)])
def test_wilson_interval(hits: int, count: int) -> None:
    wanted = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_reliability_is_as_scikit_learns_curve() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(500)
    target = rng.random(500) < scores**2  # overconfident
    found, stated = calibration_curve(target, scores, n_bins=10)
    held = reliability(scores, target)
    np.testing.assert_allclose(held.stated, stated)
    np.testing.assert_allclose(held.found, found)
    counts = np.histogram(scores, 10, (0, 1))[0]
    assert held.error == pytest.approx((abs(stated - found) * counts).sum() / 500)


def test_reliability_counts_what_a_pair_stands_for() -> None:
    held = reliability([0.95, 0.95, 0.02], [True, False, False], weights=[1, 3, 96])
    np.testing.assert_allclose(held.found, [0, 0.25])
    assert held.error == pytest.approx((96 * 0.02 + 4 * 0.7) / 100)
    with pytest.raises(ValueError, match="from 0 to 1"):
        reliability([1.5], [True])
