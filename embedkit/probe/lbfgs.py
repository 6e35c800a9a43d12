"""Minimises a smooth convex function of one tensor, on any device, by SciPy's L-BFGS-B."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.optimize
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Function = Callable[[torch.Tensor], tuple[float, torch.Tensor]]

__all__ = ["Minimum", "minimize"]

_HISTORY = 10
_MAX_LINE_SEARCH = 20
_ITERATIONS_REACHED = 1  # SciPy's status of a run that was stopped by its limits


class Minimum(NamedTuple):
    """The end of a minimisation.

    Attributes:
        point: The best point, of the start's shape.
        value: The function there.
        evaluations: Number of evaluations of the function.
        converged: False if ``max_iterations`` was reached.
    """

    point: torch.Tensor
    value: float
    evaluations: int
    converged: bool


def minimize(
    function: Function,
    start: torch.Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    gain: float = float("inf"),
) -> Minimum:
    """Minimises a convex function whose Hessian should be near the identity.

    Args:
        function: Returns the value and the gradient at a point.
        start: The first point, float64.
        tolerance: Ends when half the squared gradient, which is the distance to the minimum if the
            Hessian is the identity, is at most this share of the value and of ``gain``.
        max_iterations: Maximum number of iterations.
        gain: An estimate of the decrease from the start to the minimum, if known.
    """
    flat = _FlatFunction(function, start)
    limit = 2 * tolerance

    def stop_if_converged(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        value, gradient = flat(intermediate_result.x)
        if float(gradient @ gradient) <= limit * min(abs(value), gain):
            raise StopIteration

    first = start.cpu().numpy().ravel()
    try:
        stop_if_converged(scipy.optimize.OptimizeResult(x=first))
    except StopIteration:
        return Minimum(start, flat(first)[0], flat.evaluations, True)
    found = scipy.optimize.minimize(
        flat,
        first,
        method="L-BFGS-B",
        jac=True,
        callback=stop_if_converged,
        options={
            "maxcor": _HISTORY,
            "maxiter": max_iterations,
            "maxfun": _MAX_LINE_SEARCH * max_iterations,
            "maxls": _MAX_LINE_SEARCH,
            "ftol": 0.0,
            "gtol": 0.0,
        },
    )
    converged = found.status != _ITERATIONS_REACHED
    return Minimum(flat.to_tensor(found.x), float(found.fun), flat.evaluations, converged)


class _FlatFunction:
    """A function of a tensor as one of a flat array; its last result is kept.

    Attributes:
        evaluations: Number of evaluations of the function.
    """

    def __init__(self, function: Function, start: torch.Tensor) -> None:
        self.evaluations = 0
        self._function, self._start = function, start
        self._point: NDArray[np.float64] | None = None
        self._result = (0.0, np.empty(0))

    def __call__(self, point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Returns the value and the gradient at a point, each ``(n,)`` float64."""
        if self._point is None or not np.array_equal(self._point, point):
            value, gradient = self._function(self.to_tensor(point))
            self._point, self._result = point.copy(), (value, gradient.cpu().numpy().ravel())
            self.evaluations += 1
        return self._result

    def to_tensor(self, point: NDArray[np.float64]) -> torch.Tensor:
        """A copy of a flat point, with the shape and device of the start."""
        return torch.from_numpy(point.copy()).to(self._start.device).view_as(self._start)
