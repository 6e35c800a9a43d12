"""Runs a probe on a store: read labels, split, check for leakage, train, evaluate."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.probe.c_search import CS
from embedkit.probe.config import ProbeConfig
from embedkit.probe.leakage import ImageHashes, find_leaks
from embedkit.probe.model import refuse_others
from embedkit.probe.rows import Rows
from embedkit.probe.splits import draw_shots, hash_ids, split_off
from embedkit.probe.targets import match_targets, read_targets
from embedkit.probe.train import train_knn, train_linear
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.devices import torch_device
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.probe.evaluation import Mistakes
    from embedkit.probe.leakage import Leaks
    from embedkit.probe.metrics import Measure
    from embedkit.probe.model import Probe
    from embedkit.probe.targets import Targets, Task
    from embedkit.probe.train import Examined
    from embedkit.utils.progress import ProgressCallback

__all__ = ["ProbeResult", "ProbeRun", "run_probe"]

_log = logging.getLogger("embedkit")

_TRAINERS = {"knn": train_knn, "linear": train_linear}


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """Results of one split.

    Attributes:
        shots: Training images of each class; None where the split isn't by shots.
        trial: Number of the random draw, from 0.
        training_images: N.
        test_images: Q.
        training_hash: SHA-256 (hex) of the sorted ids of the training images.
        test_hash: SHA-256 (hex) of the sorted ids of the test images.
        leaks: Near-duplicates across the split; None if not checked.
        measures: Metric name to value; the first is the headline metric.
        chosen: The hyperparameter chosen on training images: C or k.
        tried: The score of each candidate on training images.
        by_k: k to measures on the test images, of a kNN probe.
        converged: Whether the fit converged.
    """

    shots: int | None
    trial: int
    training_images: int
    test_images: int
    training_hash: str
    test_hash: str
    leaks: Leaks | None
    measures: dict[str, Measure]
    chosen: dict[str, float]
    tried: tuple[dict[str, float], ...]
    by_k: dict[int, dict[str, Measure]]
    converged: bool


@dataclass(frozen=True, slots=True, repr=False)
class ProbeResult(Tabular):
    """Results of a probe.

    Attributes:
        train: The store that trains.
        test: The store that tests; the same one if it was split.
        seed: Random seed.
        unlabelled: Images without a label, which were left out.
        runs: One for each split.
        probe: The probe of the last split.
        confusion: ``(C, C)`` counts of the last split (rows: true class); None without classes.
        mistakes: Mistakes of the last split.
        test_ids: Ids of its test images.
        test_hashes: ``(n, 32)`` uint8, SHA-256 of these images' bytes.
        test_roots: ``StoreMeta.roots`` of the store that tests.
    """

    train: str
    test: str
    seed: int
    unlabelled: int
    runs: tuple[ProbeRun, ...]
    probe: Probe
    confusion: NDArray[np.int64] | None
    mistakes: tuple[Mistakes, ...]
    test_ids: tuple[str, ...]
    test_hashes: NDArray[np.uint8]
    test_roots: tuple[str, ...]

    def _summary(self) -> str:
        last = self.runs[-1]
        name, measure = next(iter(last.measures.items()))
        return f"{self.probe.kind}, {name} {measure.value:.3f} on {last.test_images:,} test images"

    def _columns(self) -> dict[str, Any]:
        names = ("shots", "trial", "training_images", "test_images", "converged")
        columns: dict[str, Any] = {
            name: [getattr(run, name) for run in self.runs] for name in names
        }
        for name in self.runs[0].measures:
            columns[name] = [run.measures[name].value for run in self.runs]
        for name in self.runs[0].chosen:
            columns[name] = [run.chosen[name] for run in self.runs]
        return columns


@dataclass(frozen=True, slots=True)
class _Side:
    """A store with what is known of its images; ``positions`` number its labelled rows."""

    store: EmbeddingStore
    targets: Targets
    hashes: ImageHashes

    def rows(self, positions: NDArray[np.int64], *, normalize: bool) -> Rows:
        numbers = self.targets.rows[positions]
        name = str(self.store.path)
        return Rows(self.store.embeddings, numbers, normalize=normalize, name=name)


@dataclass(frozen=True, slots=True)
class _Split:
    shots: int | None
    trial: int
    training: NDArray[np.int64]
    test: NDArray[np.int64]


@plain_numbers
def run_probe(
    kind: Literal["knn", "linear"],
    train: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    split: float | None = None,
    shots: Sequence[int] = (),
    trials: int = 5,
    seed: int = 0,
    task: Task = "classes",
    labels: str | None = None,
    label_column: str | None = None,
    normalize: bool = True,
    check_leaks: bool = True,
    device: str = "auto",
    memory: int = 2**31,
    cs: Sequence[float] = CS,
    max_iterations: int = 1000,
    progress: bool | ProgressCallback = False,
) -> ProbeResult:
    """Trains a probe on the labelled images of a store, and evaluates it on others.

    Memory: ``memory`` for features, some blocks of 64 MiB, the labels and ids of both stores, and
    ``20 * C * D * 8`` bytes for L-BFGS; a kNN probe, which holds its training rows when it is
    done, also these, as they are stored.

    Args:
        kind: ``knn`` (weighted votes of the nearest) or ``linear`` (logistic or ridge regression).
        train: A store.
        test: A store of test images.
        split: The share of test images; 0.2 if neither ``test`` nor ``shots`` is given.
        shots: Training images per class; the others test. Several values are tried in turn.
        trials: Random draws per number of shots.
        seed: Random seed.
        task: ``classes``, ``multilabel`` or ``regression``.
        labels: A CSV or Parquet file of labels; None takes those in the stores.
        label_column: Its column; None takes ``label``.
        normalize: Whether features get unit L2 norm.
        check_leaks: Whether to look for near-duplicates across the split.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        memory: Maximum memory for training features, in bytes.
        cs: The values of C that a linear probe tries, ascending; a single one is used as is.
        max_iterations: Maximum iterations per fit of a linear probe.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        EmbedkitError: There are no labels, or they aren't what the task needs.
        StoreError: A store can't be read.
        StoreMismatchError: The test store has other embedding settings.
        ValueError: An option is out of its range.
    """
    if kind not in _TRAINERS:
        raise ValueError(f"no probe {kind!r}: knn or linear")
    config = ProbeConfig(
        test=test, split=split, shots=tuple(shots), trials=trials, seed=seed, task=task,
        labels=labels, label_column=label_column, normalize=normalize, check_leaks=check_leaks,
        device=torch_device(device), memory=memory, cs=tuple(cs), max_iterations=max_iterations,
    )  # fmt: skip
    with reporting(progress), ExitStack() as stack:
        return _probe(kind, train, config, stack)


def _probe(
    kind: str, train: str | os.PathLike[str], config: ProbeConfig, stack: ExitStack
) -> ProbeResult:
    sides = [_open(stack, train, config, trains=True)]
    if config.test is not None:
        sides.append(_open(stack, config.test, config, trains=False))
        sides[1] = _matched(sides[0], sides[1], normalize=config.normalize)
    splits = list(_splits(sides[0], sides[-1], config))
    runs: list[ProbeRun] = []
    for split in track(splits, "probing", len(splits), unit="splits"):
        run, examined = _run(kind, sides[0], sides[-1], split, config)
        runs.append(run)
    _warn(runs)
    return ProbeResult(
        str(sides[0].store.path),
        str(sides[-1].store.path),
        config.seed,
        sum(side.targets.unlabelled for side in sides),
        tuple(runs),
        examined.probe,
        examined.predictions.confusion(),
        examined.predictions.mistakes(),
        sides[-1].targets.take(splits[-1].test).ids,
        sides[-1].hashes.take(splits[-1].test).content,
        tuple(sides[-1].store.meta.roots),
    )


def _open(
    stack: ExitStack, path: str | os.PathLike[str], config: ProbeConfig, *, trains: bool
) -> _Side:
    store = stack.enter_context(EmbeddingStore.open(path))
    targets = read_targets(
        store,
        task=config.task,
        labels=config.labels,
        label_column=config.label_column,
        trains=trains,
    )
    content, perceptual = store.images("content_hash"), store.images("phash")
    return _Side(store, targets, ImageHashes(content, perceptual).take(targets.rows))


def _matched(train: _Side, test: _Side, *, normalize: bool) -> _Side:
    name = str(train.store.path)
    refuse_others(name, train.store.meta, test.store.meta, normalize=normalize)
    return _Side(test.store, match_targets(test.targets, train.targets.names), test.hashes)


def _splits(train: _Side, test: _Side, config: ProbeConfig) -> Iterator[_Split]:
    """The requested splits, in order."""
    shots, share, seed = config.shots, config.split, config.seed
    targets = train.targets
    everything = np.arange(len(test.targets))
    if share is not None and (shots or test is not train):
        raise ValueError("split is for one store without shots: give one of split, test, shots")
    if shots:
        if targets.task != "classes":
            raise ValueError("shots are images of a class: only for the task classes")
        for number in shots:
            for trial in range(config.trials):
                drawn = draw_shots(targets.ids, targets.strata, number, f"{seed}:shots:{trial}")
                if test is train and drawn.all():
                    raise ValueError(f"{number} shots are all images: none is left to test on")
                rest = np.flatnonzero(~drawn) if test is train else everything
                yield _Split(number, trial, np.flatnonzero(drawn), rest)
    elif test is not train:
        yield _Split(None, 0, np.arange(len(targets)), everything)
    else:
        aside = split_off(
            targets.ids, targets.strata, 0.2 if share is None else share, f"{seed}:test"
        )
        if not aside.any():
            raise ValueError("no class has two images: none can be set aside to test on")
        yield _Split(None, 0, np.flatnonzero(~aside), np.flatnonzero(aside))


def _run(
    kind: str,
    train: _Side,
    test: _Side,
    split: _Split,
    settings: ProbeConfig,
) -> tuple[ProbeRun, Examined]:
    leaks = None
    if settings.check_leaks:
        leaks = find_leaks(
            test.rows(split.test, normalize=True),
            train.rows(split.training, normalize=True),
            test.hashes.take(split.test),
            train.hashes.take(split.training),
            device=settings.device,
        )
    known, truth = train.targets.take(split.training), test.targets.take(split.test)
    examined = _TRAINERS[kind](
        train.rows(split.training, normalize=settings.normalize),
        known,
        test.rows(split.test, normalize=settings.normalize),
        truth,
        train.store.meta,
        settings,
    )
    run = ProbeRun(
        split.shots,
        split.trial,
        len(known),
        len(truth),
        hash_ids(known.ids),
        hash_ids(truth.ids),
        leaks,
        examined.measures,
        examined.chosen,
        examined.tried,
        examined.by_k,
        examined.converged,
    )
    return run, examined


def _warn(runs: Sequence[ProbeRun]) -> None:
    leaking = max((run.leaks.images / run.test_images for run in runs if run.leaks), default=0)
    if leaking:
        worst = max(run.leaks.images for run in runs if run.leaks)
        _log.warning(
            "%s of the test images have a near-duplicate among the training images (up to "
            "%.1f%% of a split), which inflates the results; remove the near-duplicates first",
            f"{worst:,}",
            100 * leaking,
        )
    if not all(run.converged for run in runs):
        _log.warning("a fit was stopped by max_iterations before it had converged")
