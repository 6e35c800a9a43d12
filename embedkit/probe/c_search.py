"""Chooses C on a held-out part of the training images, then trains on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from embedkit.probe.logistic import LogisticProblem
from embedkit.probe.metrics import mean_average_precision, r_squared
from embedkit.probe.ridge import RidgeProblem
from embedkit.utils.progress import Stage, track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.probe.logistic import Solution
    from embedkit.probe.rotated_features import Features
    from embedkit.probe.targets import Targets

__all__ = ["CS", "Linear", "Swept", "fit_linear"]

CS = tuple(float(c) for c in np.logspace(-6, 5, 45))
"""Source: the logistic regression of Oquab et al. 2023, "DINOv2", arXiv 2304.07193, which follows
Radford et al. 2021, arXiv 2103.00020, appendix A.3."""

_FALLBACK_C = 1.0
_SWEEP_TOLERANCE = 1e-5


class Swept(NamedTuple):
    """Results of one C on the held-out images.

    Attributes:
        c: The C.
        score: Top-1, mAP or R2; NaN where the held-out images leave it undefined.
        loss: Mean log loss, or mean squared error: decides between equal scores.
    """

    c: float
    score: float
    loss: float


@dataclass(frozen=True, slots=True)
class Linear:
    """A trained linear probe: ``features @ weight.T + bias``.

    Attributes:
        weight: ``(C, D)`` float32, or float64 for a regression.
        bias: ``(C,)``, of the same dtype.
        c: The C that was chosen.
        swept: Results per C; empty where nothing could be held out, or nothing was to be chosen.
        converged: Whether the last fit ended by itself.
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating]
    c: float
    swept: tuple[Swept, ...]
    converged: bool


def fit_linear(
    features: Features,
    targets: Targets,
    fit_count: int,
    *,
    cs: tuple[float, ...] = CS,
    max_iterations: int = 1000,
) -> Linear:
    """Trains for each C on the first rows, chooses the best C on the others, trains on all rows.

    Args:
        features: Training features.
        targets: Their targets, in the same order.
        fit_count: How many rows, from the first on, train during the sweep; the others are held
            out. If it is all of them, C is 1.
        cs: The values to try, ascending: each fit begins where the one before ended. A single one
            is taken as it is.
        max_iterations: Maximum iterations per fit.
    """
    known = torch.from_numpy(np.ascontiguousarray(targets.values)).to(features.axes.device)
    make = RidgeProblem if targets.task == "regression" else LogisticProblem
    swept: list[Swept] = []
    given = cs[0] if len(cs) == 1 else _FALLBACK_C
    best: tuple[tuple[float, float], float, Solution | None] = ((0.0, 0.0), given, None)
    if fit_count < len(features) and len(cs) > 1:
        rough = features if targets.task == "regression" else features.in_single_precision()
        part = make(rough, known, len(targets.names), fit_count)
        held_out = targets.values[fit_count:]
        solution: Solution | None = None
        for c in track(cs, "choosing C", len(cs), unit="fits"):
            solution = part.solve(
                c, solution, tolerance=_SWEEP_TOLERANCE, max_iterations=max_iterations
            )
            parts = part.logits(solution, fit_count, len(features))
            swept.append(Swept(c, *_judge(parts, held_out, targets.task)))
            rank = (float(np.nan_to_num(swept[-1].score)), -swept[-1].loss)
            if len(swept) == 1 or rank > best[0]:
                best = (rank, c, solution)
    _, c, start = best
    with Stage("fitting"):
        problem = make(features, known, len(targets.names))
        found = problem.solve(c, start, max_iterations=max_iterations)
    weight = found.weight @ features.axes.T
    bias = found.bias - weight @ features.mean
    dtype = torch.float64 if targets.task == "regression" else torch.float32
    weight, bias = (one.to(dtype).cpu() for one in (weight, bias))
    return Linear(weight.numpy(), bias.numpy(), c, tuple(swept), found.converged)


def _judge(parts: Iterator[torch.Tensor], truth: NDArray[Any], task: str) -> tuple[float, float]:
    """The score and the loss of predictions for held-out images, which come in their order."""
    if task == "classes":
        return _judge_classes(parts, torch.from_numpy(np.asarray(truth, np.int64)))
    logits = torch.cat(list(parts)).double().cpu().numpy()
    known = np.asarray(truth, np.float64)
    if task == "multilabel":
        loss = float((np.logaddexp(0, logits) - known * logits).mean())
        return mean_average_precision(logits, known), loss
    return r_squared(logits, known), float(np.square(known - logits).mean())


def _judge_classes(parts: Iterator[torch.Tensor], truth: torch.Tensor) -> tuple[float, float]:
    start = hits = 0
    loss = 0.0
    for logits in parts:
        known = truth[start : start + len(logits)].to(logits.device)
        start += len(logits)
        hits += int((logits.argmax(dim=1) == known).sum())
        loss += float(cross_entropy(logits.double(), known, reduction="sum"))
    return hits / start, loss / start
