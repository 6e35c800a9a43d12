"""L2-regularised logistic regression, softmax or one against the rest, by full-batch L-BFGS.

The objective is scikit-learn's: ``C * sum of losses + |W|^2 / 2``, the intercept free; here it is
divided by ``C * n``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from embedkit.probe.lbfgs import minimize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.probe.rotated_features import Features

__all__ = ["LogisticProblem", "Solution"]

# Weights come within some 1e-4 and 1e-5 of what they are at the minimum.
_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-9}


@dataclass(frozen=True, slots=True)
class Solution:
    """A linear classifier in the axes of its features.

    Attributes:
        weight: ``(C, r)`` float64.
        bias: ``(C,)`` float64, for centred features.
        value: The objective, a mean over images.
        evaluations: Passes over the training features.
        converged: Whether it ended by itself.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    value: float
    evaluations: int
    converged: bool


class LogisticProblem:
    """Logistic regression on the first ``count`` rows of some features.

    Args:
        features: Features, in training order.
        targets: ``(n,)`` int64 classes (softmax), or ``(n, C)`` 0 and 1 (one against the rest), on
            the features' device.
        classes: C.
        count: How many rows train; None is all.
    """

    def __init__(
        self, features: Features, targets: torch.Tensor, classes: int, count: int | None = None
    ) -> None:
        self._features = features
        self._targets = targets
        self._classes = classes
        self.count = len(features) if count is None else count
        self._is_softmax = targets.ndim == 1
        self._curvature = self._mean_curvature()
        blank = torch.zeros(classes, features.axes.shape[1], dtype=torch.float64)
        blank = blank.to(features.axes.device)
        self._first_gradient = self._loss(blank, blank.new_zeros(classes))[1]

    def solve(
        self,
        c: float,
        start: Solution | None = None,
        *,
        tolerance: float | None = None,
        max_iterations: int = 1000,
    ) -> Solution:
        """Finds the minimum for one C.

        Args:
            c: Inverse strength of the regularisation, as scikit-learn's ``C``.
            start: A solution for another C, to begin from.
            tolerance: See ``minimize``; None is what the arithmetic's precision is good for.
            max_iterations: The most steps.
        """
        strength = 1 / (c * self.count)
        # The Hessian is about curvature * covariance + strength; in these units it is about 1.
        scale = (self._curvature * self._features.variances + strength).rsqrt()
        unit = self._curvature**-0.5
        point = torch.zeros(self._classes, len(scale) + 1, dtype=torch.float64, device=scale.device)
        if start is not None:
            point[:, :-1] = start.weight / scale
            point[:, -1] = start.bias / unit

        def function(at: torch.Tensor) -> tuple[float, torch.Tensor]:
            weight = at[:, :-1] * scale
            value, by_weight, by_bias = self._loss(weight, at[:, -1] * unit)
            value += 0.5 * strength * float(weight.square().sum())
            by_weight += strength * weight
            return value, torch.cat([by_weight * scale, by_bias[:, None] * unit], dim=1)

        # For a tiny C the minimum is near zero, where the value hardly changes, but classes do.
        if tolerance is None:
            tolerance = _TOLERANCE[self._features.dtype]
        gain = 0.5 * float((self._first_gradient * scale).square().sum())
        found = minimize(
            function, point, tolerance=tolerance, max_iterations=max_iterations, gain=gain
        )
        weight, bias = found.point[:, :-1] * scale, found.point[:, -1] * unit
        return Solution(weight, bias, found.value, found.evaluations, found.converged)

    def logits(self, solution: Solution, start: int, stop: int) -> Iterator[torch.Tensor]:
        """The logits of some rows, in order: ``(m, C)`` a block."""
        weight, bias = self._for_blocks(solution.weight, solution.bias)
        for _, block in self._features.blocks(start, stop, self._classes):
            yield torch.addmm(bias, block, weight.T)

    def _loss(
        self, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[float, torch.Tensor, torch.Tensor]:
        """The mean loss, and its gradients by weight ``(C, r)`` and by bias ``(C,)``."""
        features = self._features
        wide, intercept = self._for_blocks(weight, bias)
        by_weight = torch.zeros_like(wide, dtype=torch.float64)
        by_bias = torch.zeros_like(bias)
        loss = 0.0
        for start, block in features.blocks(0, self.count, self._classes):
            logits = torch.addmm(intercept, block, wide.T)
            targets = self._targets[start : start + len(block)]
            part, residual = (
                _softmax(logits, targets) if self._is_softmax else _sigmoid(logits, targets)
            )
            loss += part
            by_weight += residual.T @ block
            by_bias += residual.sum(dim=0)
        if not features.is_kept:
            by_weight = by_weight @ features.axes
        return loss / self.count, by_weight / self.count, by_bias / self.count

    def _for_blocks(
        self, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights in the axes that the features' blocks have."""
        features = self._features
        if not features.is_kept:
            weight = weight @ features.axes.T
        return weight.to(features.dtype), bias.to(features.dtype)

    def _mean_curvature(self) -> float:
        """What p (1 - p) is where only the classes' shares are known, the mean over classes."""
        targets = self._targets[: self.count]
        if self._is_softmax:
            shares = torch.bincount(targets, minlength=self._classes) / self.count
        else:
            shares = targets.mean(dim=0)
        return max(float((shares * (1 - shares)).mean()), 1e-6)


def _softmax(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The sum of cross-entropies, and its derivatives by the logits."""
    logs = logits.log_softmax(dim=1)
    rows = torch.arange(len(targets), device=targets.device)
    loss = -float(logs[rows, targets].sum(dtype=torch.float64))
    residual = logs.exp_()
    residual[rows, targets] -= 1
    return loss, residual


def _sigmoid(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The sum of binary cross-entropies over images and labels, and its derivatives."""
    expected = targets.to(logits.dtype)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, expected, reduction="none")
    return float(loss.sum(dtype=torch.float64)), logits.sigmoid() - expected
