"""Logistic regression on a few features: the model, and its fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LogisticModel", "fit_logistic", "least_score", "probability"]

_BIAS_PENALTY = 1e-6
_CONVERGENCE = {"maxiter": 1000, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-10}
_LARGEST = 700.0  # exp of more overflows


def probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of log-odds, of the same shape."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -_LARGEST, _LARGEST))))


def least_score(precision: float, thresholds: Sequence[tuple[float, float]]) -> float:
    """The score from which on a share ``precision`` of the pairs were copies.

    Args:
        precision: 0 to 1; the next higher measured one is taken, or the highest.
        thresholds: Measured precisions, ascending, and the least score that reached each.
    """
    enough = [least for measured, least in thresholds if measured >= precision - 1e-9]
    return enough[0] if enough else thresholds[-1][1]


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """Log-odds as a weighted sum of standardised features.

    Attributes:
        features: F names.
        mean: F values, subtracted from the features.
        scale: F values above 0, that the features are then divided by.
        weights: F weights.
        bias: Log-odds of average features.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        sizes = {len(self.features), len(self.mean), len(self.scale), len(self.weights)}
        numbers = [*self.mean, *self.scale, *self.weights, self.bias]
        if len(sizes) != 1 or not np.isfinite(numbers).all() or min(self.scale, default=1) <= 0:
            raise ValueError("a logistic model needs as many finite numbers as features")

    def log_odds(self, columns: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """Log-odds of n rows, ``(n,)``, from one ``(n,)`` column per feature."""
        total = np.full(len(columns[self.features[0]]), self.bias)
        for name, mean, scale, weight in zip(
            self.features, self.mean, self.scale, self.weights, strict=True
        ):
            total += (np.asarray(columns[name], np.float64) - mean) / scale * weight
        return total

    def to_config(self) -> dict[str, Any]:
        """Returns JSON-compatible values; ``from_config`` reads them."""
        return {
            "features": list(self.features),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "weights": list(self.weights),
            "bias": self.bias,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Reads the result of ``to_config``.

        Raises:
            ValueError: It doesn't describe a model.
        """
        names = ("features", "mean", "scale", "weights")
        try:
            features, *numbers = (tuple(config[name]) for name in names)
            mean, scale, weights = (tuple(map(float, column)) for column in numbers)
            return cls(tuple(map(str, features)), mean, scale, weights, float(config["bias"]))
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not a logistic model: {exc!r}") from exc


def fit_logistic(
    columns: Mapping[str, NDArray[np.floating]],
    target: NDArray[np.bool_],
    sample_weight: NDArray[np.floating],
    *,
    rising: Sequence[str] = (),
    penalty: float = 1.0,
) -> LogisticModel:
    """Fits a logistic regression by L-BFGS-B, with a ridge on the standardised features' weights.

    Args:
        columns: F features, ``(n,)`` each.
        target: ``(n,)`` which rows are of the positive class.
        sample_weight: ``(n,)``, above 0: how many rows each stands for.
        rising: Features whose weight may not be negative.
        penalty: Weight of the squared weights, against the sum of the weighted log-losses.

    Raises:
        ValueError: There are rows of one class only.
    """
    from scipy.optimize import minimize

    if target.all() or not target.any():
        raise ValueError("a logistic regression needs rows of both classes")
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    mean, scale = values.mean(0), np.maximum(values.std(0), 1e-9)
    design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
    ridge = np.append(np.full(len(columns), penalty), _BIAS_PENALTY)
    total = sample_weight.sum()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = design @ weights
        each = np.logaddexp(0, np.where(target, -odds, odds))
        value = sample_weight @ each + ridge @ np.square(weights) / 2
        gradient = design.T @ (sample_weight * (probability(odds) - target)) + ridge * weights
        return float(value / total), gradient / total

    bounds = [(0 if name in rising else None, None) for name in columns]
    found = minimize(
        loss, np.zeros(len(ridge)), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)],
        options=_CONVERGENCE,
    )  # fmt: skip
    *weights, bias = found.x.tolist()
    return LogisticModel(
        tuple(columns), tuple(mean.tolist()), tuple(scale.tolist()), tuple(weights), bias
    )
