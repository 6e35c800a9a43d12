"""L-BFGS minimisation of a smooth convex function of one tensor, on any device."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    Function = Callable[[torch.Tensor], tuple[float, torch.Tensor]]

__all__ = ["Minimum", "minimize"]

_HISTORY = 10
_ARMIJO, _CURVATURE = 1e-4, 0.9
_MAX_STEPS = 20  # of one line search


class Minimum(NamedTuple):
    """Where a minimisation ended.

    Attributes:
        point: The best point.
        value: The function there.
        evaluations: Number of function evaluations.
        converged: False if it was stopped by ``max_iterations``.
    """

    point: torch.Tensor
    value: float
    evaluations: int
    converged: bool


class _Point(NamedTuple):
    at: torch.Tensor
    value: float
    gradient: torch.Tensor


def minimize(
    function: Function,
    start: torch.Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    gain: float = float("inf"),
) -> Minimum:
    """Minimises a convex function whose Hessian is near the identity, at best.

    Args:
        function: Gives the value and the gradient at a point.
        start: Where to begin; float64 keeps the sums of small steps.
        tolerance: Ends when half the squared gradient, which for an identity as the Hessian is
            the distance to the minimum, is at most this share of the value and of ``gain``.
        max_iterations: Maximum number of steps.
        gain: About how much there is to be gained in all, if that is known.

    Source: Nocedal and Wright 2006, "Numerical optimization", algorithms 7.4 and 7.5; the line
    search by bisection is that of Lewis and Overton 2013, algorithm 2.6.
    """
    here = _Point(start, *function(start))
    evaluations = 1
    history: deque[tuple[torch.Tensor, torch.Tensor, float]] = deque(maxlen=_HISTORY)
    for _ in range(max_iterations):
        if 0.5 * float(here.gradient.square().sum()) <= tolerance * min(abs(here.value), gain):
            return Minimum(here.at, here.value, evaluations, True)
        direction = _direction(here.gradient, history)
        following, calls = _search(function, here, direction)
        evaluations += calls
        if following is None:  # no better point within the arithmetic's precision
            return Minimum(here.at, here.value, evaluations, True)
        step, change = following.at - here.at, following.gradient - here.gradient
        curvature = float((step * change).sum())
        if curvature > 0:
            history.append((step, change, curvature))
        here = following
    return Minimum(here.at, here.value, evaluations, False)


def _direction(
    gradient: torch.Tensor, history: deque[tuple[torch.Tensor, torch.Tensor, float]]
) -> torch.Tensor:
    """Minus the approximate inverse Hessian times the gradient, by the two-loop recursion."""
    found = -gradient
    shares = []
    for step, change, curvature in reversed(history):
        share = float((step * found).sum()) / curvature
        found = found - share * change
        shares.append(share)
    if history:
        _, change, curvature = history[-1]
        found = found * (curvature / float(change.square().sum()))
    for (step, change, curvature), share in zip(history, reversed(shares), strict=True):
        found = found + (share - float((change * found).sum()) / curvature) * step
    return found


def _search(function: Function, here: _Point, direction: torch.Tensor) -> tuple[_Point | None, int]:
    """A point along the direction that meets the weak Wolfe conditions; number of evaluations."""
    slope = float((here.gradient * direction).sum())
    low, high, length = 0.0, float("inf"), 1.0
    best: _Point | None = None
    for calls in range(1, _MAX_STEPS + 1):
        at = here.at + length * direction
        there = _Point(at, *function(at))
        if there.value > here.value + _ARMIJO * length * slope:
            high = length
        elif float((there.gradient * direction).sum()) < _CURVATURE * slope:
            low, best = length, there
        else:
            return there, calls
        length = (low + high) / 2 if high < float("inf") else 2 * low
    return best, _MAX_STEPS
