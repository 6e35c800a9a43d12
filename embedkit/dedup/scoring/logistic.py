"""Logistic regression on a handful of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LogisticModel", "fit_logistic", "probability"]

_STEPS, _ENOUGH = 100, 1e-9
_LARGEST = 700.0  # exp of more overflows


def probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -_LARGEST, _LARGEST))))


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A weighted sum of standardised features as log-odds.

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
        """Log-odds of n rows, ``(n,)``, from one ``(n,)`` column for each feature."""
        total = np.full(len(columns[self.features[0]]), self.bias)
        for name, mean, scale, weight in zip(
            self.features, self.mean, self.scale, self.weights, strict=True
        ):
            total += (np.asarray(columns[name], np.float64) - mean) / scale * weight
        return total

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "features": list(self.features),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "weights": list(self.weights),
            "bias": self.bias,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """What ``to_config`` gave.

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
    """Fits by Newton's method, with a ridge on the weights of the standardised features.

    Args:
        columns: F features, ``(n,)`` each.
        target: ``(n,)``.
        sample_weight: ``(n,)``, above 0: how many rows each stands for.
        rising: Features that more of can't make a row less likely: one whose weight comes out
            below 0 is left at 0.
        penalty: Of the squared weights, against the sum of the sample weights' log-losses.

    Raises:
        ValueError: Not both classes are there.
    """
    if target.all() or not target.any():
        raise ValueError("a logistic regression needs rows of both classes")
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    mean, scale = values.mean(0), np.maximum(values.std(0), 1e-9)
    design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
    kept = np.ones(design.shape[1], bool)
    while True:
        weights = np.zeros(design.shape[1])
        weights[kept] = _newton(design[:, kept], target, sample_weight, penalty)
        falling = [n for n, name in enumerate(columns) if name in rising and weights[n] < 0]
        if not falling:
            break
        kept[falling] = False
    mean_, scale_, weights_ = (tuple(map(float, row)) for row in (mean, scale, weights[:-1]))
    return LogisticModel(tuple(columns), mean_, scale_, weights_, float(weights[-1]))


def _newton(
    design: NDArray[np.float64],
    target: NDArray[np.bool_],
    sample_weight: NDArray[np.floating],
    penalty: float,
) -> NDArray[np.float64]:
    """The weights, the last one the bias, which isn't penalised."""
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 1e-6
    weights = np.zeros(design.shape[1])
    loss = _loss(design, target, sample_weight, ridge, weights)
    for _ in range(_STEPS):
        likely = probability(design @ weights)
        gradient = design.T @ (sample_weight * (likely - target)) + ridge * weights
        curvature = sample_weight * likely * (1 - likely)
        hessian = (design * curvature[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        # Where the data are nearly separable a full step can overshoot.
        length = 1.0
        while length > _ENOUGH:
            new = _loss(design, target, sample_weight, ridge, weights - length * step)
            if new <= loss:
                break
            length /= 2
        weights = weights - length * step
        if loss - new < _ENOUGH * max(loss, 1):
            break
        loss = new
    return weights


def _loss(
    design: NDArray[np.float64],
    target: NDArray[np.bool_],
    sample_weight: NDArray[np.floating],
    ridge: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> float:
    odds = design @ weights
    each = np.logaddexp(0, np.where(target, -odds, odds))
    return float(sample_weight @ each + ridge @ np.square(weights) / 2)
