"""Ridge regression, in closed form.

The objective is scikit-learn's: ``sum of squares + alpha * |w|^2`` with ``alpha = 1 / C``, the
intercept free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from embedkit.probe.logistic import Solution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.probe.rotated_features import Features

__all__ = ["RidgeProblem"]


class RidgeProblem:
    """Ridge regression on the first ``count`` rows of some features.

    Args:
        features: Features, in training order.
        targets: ``(n, T)`` float64, on the features' device.
        outputs: T.
        count: How many rows train; None is all.
    """

    def __init__(
        self, features: Features, targets: torch.Tensor, outputs: int, count: int | None = None
    ) -> None:
        self._features = features
        self.count = len(features) if count is None else count
        rank = features.axes.shape[1]
        self._gram = torch.zeros(rank, rank, dtype=torch.float64, device=features.axes.device)
        self._cross = self._gram.new_zeros(rank, outputs)
        self._sums = self._gram.new_zeros(rank)
        self._mean = targets[: self.count].mean(dim=0)
        for start, block in features.blocks(0, self.count):
            wide = block.double() if features.is_kept else block.double() @ features.axes
            self._gram += wide.T @ wide
            self._cross += wide.T @ (targets[start : start + len(block)] - self._mean)
            self._sums += wide.sum(dim=0)
        self._gram -= torch.outer(self._sums, self._sums) / self.count
        self._values, self._vectors = torch.linalg.eigh(self._gram)

    def solve(
        self,
        c: float,
        start: Solution | None = None,
        *,
        tolerance: float | None = None,
        max_iterations: int = 0,
    ) -> Solution:
        """Finds the minimum for one C; the other arguments are those of an iterative solver."""
        del start, tolerance, max_iterations
        shrunk = (self._vectors.T @ self._cross) / (self._values.clamp(min=0) + 1 / c)[:, None]
        weight = (self._vectors @ shrunk).T
        return Solution(weight, self._mean - weight @ self._sums / self.count, 0.0, 1, True)

    def logits(self, solution: Solution, start: int, stop: int) -> Iterator[torch.Tensor]:
        """The predictions for some rows, in order: ``(m, T)`` a block."""
        weight = solution.weight
        if not self._features.is_kept:
            weight = weight @ self._features.axes.T
        for _, block in self._features.blocks(start, stop):
            yield block.double() @ weight.T + solution.bias
