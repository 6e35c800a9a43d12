"""The fit of the calibration models, against scikit-learn and its own bounds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from embedkit.dedup.scoring.logistic import fit_logistic


def draw(count: int = 800) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.random(count) < 0.3
    columns = {
        "cosine": rng.normal(0.5, 0.1, count) + 0.1 * target,
        "hamming": rng.normal(28, 5, count) - 4.0 * target,
    }
    return columns, target, np.where(target, 1.0, rng.choice([1.0, 15.0], count))


def test_the_fit_is_that_of_scikit_learn() -> None:
    columns, target, weight = draw()
    model = fit_logistic(columns, target, weight)
    values = np.stack(list(columns.values()), axis=1)
    values = (values - values.mean(0)) / values.std(0)
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    expected = peer.fit(values, target, sample_weight=weight).decision_function(values)
    np.testing.assert_allclose(model.log_odds(columns), expected, atol=1e-3)


def test_a_rising_feature_never_gets_a_negative_weight() -> None:
    columns, target, weight = draw()
    assert fit_logistic(columns, target, weight).weights[1] < 0
    model = fit_logistic(columns, target, weight, rising=["cosine", "hamming"])
    assert model.weights[0] > 0
    assert model.weights[1] == 0


def test_both_classes_are_needed() -> None:
    columns, target, weight = draw()
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic(columns, np.ones_like(target), weight)
