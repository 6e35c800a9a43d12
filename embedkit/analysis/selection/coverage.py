"""How well selected images cover all: the distance of each to the nearest selected one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.spherical_kmeans import nearest_centers, sample_units
from embedkit.index.store_rows import StoreRows
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import Stage, reporting
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.utils.progress import ProgressCallback

__all__ = ["Coverage", "coverage_of", "measure_coverage"]

SAMPLED = 20_000  # images that coverage is measured on
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well a selection covers the images it was chosen from.

    Attributes:
        radius: The greatest distance (1 - cosine) of an image to the nearest selected one.
        mean_distance: The mean distance.
        images: How many images were measured: all of them, or a random sample.
    """

    radius: float
    mean_distance: float
    images: int


@plain_numbers
def measure_coverage(
    stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    selected: Sequence[int] | NDArray[np.int64],
    *,
    sample: int = 20_000,
    seed: int = 0,
    progress: bool | ProgressCallback = False,
) -> Coverage:
    """Measures how well some images cover all images of stores.

    Args:
        stores: Stores of one backbone.
        selected: Row numbers, counted through all stores.
        sample: How many images are measured, at most; drawn at random.
        seed: Seed of the sample.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
    """
    paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
    with reporting(progress), StoreRows.open(paths) as rows:
        numbers = np.arange(len(rows))
        return coverage_of(rows, numbers, np.asarray(selected, np.int64), seed, sample)


def coverage_of(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    selected: NDArray[np.int64],
    seed: int,
    sample: int = SAMPLED,
) -> Coverage:
    """As ``measure_coverage``, of selected places among ``numbers``, ``(n,)``, of open stores."""
    units = sample_units(rows, numbers, sample, seed)
    best = np.full(len(units), -1, np.float32)
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    with Stage("measuring coverage"):
        for start in range(0, len(selected), step):
            near = unit_rows(rows.read(numbers[np.sort(selected[start : start + step])]))
            np.maximum(best, nearest_centers(units, near)[1][:, 0], out=best)
    distances = np.maximum(1 - best.astype(np.float64), 0)
    return Coverage(float(distances.max()), float(distances.mean()), len(units))
