"""Trains a probe on one split and predicts its test images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.probe.c_search import fit_linear
from embedkit.probe.evaluation import Predictions
from embedkit.probe.knn import nearest, votes
from embedkit.probe.model import KnnProbe, LinearProbe
from embedkit.probe.rotated_features import Features
from embedkit.probe.splits import split_off
from embedkit.utils.progress import Stage, track
from embedkit.utils.threads import library_threads, threads_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.probe.config import ProbeConfig
    from embedkit.probe.metrics import Measure
    from embedkit.probe.model import Probe
    from embedkit.probe.rows import Rows
    from embedkit.probe.targets import Targets
    from embedkit.store import StoreMeta

__all__ = ["Examined", "train_knn", "train_linear"]

_LITTLE_WORK = 2e8  # multiplications of one pass: some 20 ms, for which threads would wait
_HELD_OUT = 0.2
_MOST_QUERIES = 10_000  # training images used to choose k
_SCORED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Examined:
    """A trained probe and its results.

    Attributes:
        probe: The probe.
        measures: Metric name to value, on the test images.
        predictions: For the test images.
        chosen: The hyperparameter chosen on training images: C or k.
        tried: The score of each candidate on training images.
        by_k: k to measures, on the test images; nothing for a linear probe.
        converged: Whether the fit converged.
    """

    probe: Probe
    measures: dict[str, Measure]
    predictions: Predictions
    chosen: dict[str, float]
    tried: tuple[dict[str, float], ...]
    by_k: dict[int, dict[str, Measure]] = field(default_factory=dict)
    converged: bool = True


def train_linear(
    training: Rows,
    known: Targets,
    test: Rows,
    truth: Targets,
    meta: StoreMeta,
    settings: ProbeConfig,
) -> Examined:
    """Trains a linear probe: C is chosen on a held-out fifth of the training images.

    Args:
        training: N rows.
        known: Their targets.
        test: Q rows.
        truth: Their targets.
        meta: How all were embedded.
        settings: See ``ProbeConfig``.
    """
    aside = split_off(known.ids, known.strata, _HELD_OUT, f"{settings.seed}:held-out")
    order = np.concatenate([np.flatnonzero(~aside), np.flatnonzero(aside)])
    work = float(len(training)) * training.dim * len(known.names)
    with library_threads(threads_for(work, _LITTLE_WORK)):
        with Stage("finding the axes of the features"):
            features = Features(
                training.take(order), device=settings.device, memory=settings.memory
            )
        fitted = fit_linear(
            features,
            known.take(order),
            int((~aside).sum()),
            cs=settings.cs,
            max_iterations=settings.max_iterations,
        )
    probe = LinearProbe(
        Path(),
        known.task,
        known.names,
        meta,
        settings.normalize,
        fitted.weight,
        fitted.bias,
        fitted.c,
    )
    predictions = Predictions(truth)
    starts = range(0, len(test), _SCORED_ROWS)
    for start in track(starts, "predicting", len(starts), unit="batches"):
        stop = min(start + _SCORED_ROWS, len(test))
        predictions.add(probe.scores(test.stored(start, stop)))
    with Stage("measuring"):
        measures = predictions.measures(settings.seed)
    return Examined(
        probe,
        measures,
        predictions,
        {"c": fitted.c},
        tuple(one._asdict() for one in fitted.swept),
        converged=fitted.converged,
    )


def train_knn(
    training: Rows,
    known: Targets,
    test: Rows,
    truth: Targets,
    meta: StoreMeta,
    settings: ProbeConfig,
) -> Examined:
    """Evaluates every k; the saved one is chosen by leave-one-out on training images.

    Args:
        training: N rows.
        known: Their targets.
        test: Q rows.
        truth: Their targets.
        meta: How all were embedded.
        settings: See ``ProbeConfig``.
    """
    count = len(training)
    ks = [k for k in settings.ks if k <= count] or [count]
    k, tried = _choose_k(training, known, [one for one in ks if one < count], settings)
    by_k = {one: Predictions(truth) for one in ks}
    for found in nearest(test, training, ks[-1], device=settings.device):
        for predictions, scores in zip(by_k.values(), votes(found, known, ks), strict=True):
            predictions.add(scores)
    with Stage("measuring"):
        measures = {one: predictions.measures(settings.seed) for one, predictions in by_k.items()}
    chosen = k if k in by_k else ks[0]
    probe = KnnProbe(
        Path(),
        known.task,
        known.names,
        meta,
        settings.normalize,
        training.stored(0, count),
        np.asarray(known.values),
        chosen,
    )
    return Examined(probe, measures[chosen], by_k[chosen], {"k": chosen}, tried, measures)


def _choose_k(
    training: Rows, known: Targets, ks: Sequence[int], settings: ProbeConfig
) -> tuple[int, tuple[dict[str, float], ...]]:
    """The k with the best leave-one-out score on training images; the smallest of equal ones."""
    if not ks:
        return 0, ()
    rng = np.random.default_rng(settings.seed)
    count = len(training)
    drawn = np.sort(rng.permutation(count)[:_MOST_QUERIES])
    by_k = {k: Predictions(known.take(drawn)) for k in ks}
    found = nearest(training.take(drawn), training, ks[-1], device=settings.device, own=drawn)
    for one in found:
        for predictions, scores in zip(by_k.values(), votes(one, known, ks), strict=True):
            predictions.add(scores)
    scores_of = {k: predictions.score() for k, predictions in by_k.items()}
    best = max(ks, key=lambda k: (scores_of[k], -k))
    return best, tuple({"k": float(k), "score": score} for k, score in scores_of.items())
