"""The settings of a probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.probe.c_search import CS
from embedkit.probe.knn import KS

if TYPE_CHECKING:
    import os

    from embedkit.probe.targets import Task

__all__ = ["ProbeConfig"]


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """The settings of a probe, as the keywords of ``run_probe``, which describes them.

    Attributes:
        test: A store of test images.
        split: The share of test images.
        shots: Training images per class.
        trials: Random draws per number of shots.
        seed: Random seed.
        task: ``classes``, ``multilabel`` or ``regression``.
        labels: A CSV or Parquet file of labels; None takes those in the stores.
        label_column: Its column; None takes ``label``.
        normalize: Whether features get unit L2 norm.
        check_leaks: Whether to look for near-duplicates across the split.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        memory: Maximum memory for training features, in bytes.
        cs: The values of C that a linear probe tries.
        ks: The values of k that a kNN probe evaluates.
        max_iterations: Maximum iterations per fit of a linear probe.

    Raises:
        ValueError: A setting is out of its range.
    """

    test: str | os.PathLike[str] | None = None
    split: float | None = None
    shots: tuple[int, ...] = ()
    trials: int = 5
    seed: int = 0
    task: Task = "classes"
    labels: str | None = None
    label_column: str | None = None
    normalize: bool = True
    check_leaks: bool = True
    device: str = "auto"
    memory: int = 2**31
    cs: tuple[float, ...] = CS
    ks: tuple[int, ...] = KS
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        cs = self.cs
        if not cs or not all(0 < c < np.inf for c in cs) or list(cs) != sorted(cs):
            raise ValueError("the values of C must be positive, finite and ascending")
        for name, least, unit in (("seed", 0, ""), ("memory", 0, " bytes"), ("trials", 1, "")):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} must be at least {least}{unit}, not {getattr(self, name)}"
                )
