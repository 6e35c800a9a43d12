"""Spherical k-means: trained on a sample in memory, refined on all rows, which are streamed.

Source: Dhillon, Modha, "Concept decompositions for large sparse text data using clustering" (2001);
the first centers as in Arthur, Vassilvitskii, "k-means++" (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np

from embedkit.index.openmp import few_threads
from embedkit.index.streaming_kmeans import move_centroids
from embedkit.index.train import sample_positions
from embedkit.index.vector_space import Space
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows
    from embedkit.index.streaming_kmeans import Sums

__all__ = [
    "Assigned",
    "assign",
    "nearest_centers",
    "sample_units",
    "stream_centers",
    "train_centers",
]

_ITERATIONS, _QUICK_ITERATIONS = 20, 8
_PER_CENTER, _QUICK_PER_CENTER = 256, 64  # rows of the sample
_SAMPLE_BYTES = 160 * 2**20
_SPREAD_ROWS, _SPREAD_CENTERS = 32, 1024  # k-means++: rows per center; more centers are random
_BLOCK_BYTES = 32 * 2**20


class Assigned(NamedTuple):
    """Some rows and their nearest centers.

    Attributes:
        where: Their places among the numbers that were asked for.
        rows: ``(n, D)`` as stored.
        units: ``(n, D)`` float32 of unit length.
        clusters: ``(n,)`` int64, the nearest center; of equally near ones the first.
        cosines: ``(n,)`` float32 to it.
    """

    where: slice
    rows: NDArray[np.floating]
    units: NDArray[np.float32]
    clusters: NDArray[np.int64]
    cosines: NDArray[np.float32]


def train_centers(
    units: NDArray[np.float32], k: int, seed: int, *, quick: bool = False
) -> NDArray[np.float32]:
    """Clusters rows that are in memory.

    Args:
        units: ``(n, D)`` of unit length, n of at least 1.
        k: Number of centers, at most n.
        seed: Seed of the first centers.
        quick: Whether to begin with random centers and to stop early.

    Returns:
        ``(k, D)`` float32 of unit length.
    """
    iterations = _QUICK_ITERATIONS if quick else _ITERATIONS
    means = faiss.Kmeans(
        units.shape[1], k, niter=iterations, spherical=True, seed=seed,
        min_points_per_centroid=1, max_points_per_centroid=max(len(units) // k + 1, 1),
    )  # fmt: skip
    rows = np.ascontiguousarray(units)
    first = _random_centers(rows, k, seed) if quick else _first_centers(rows, k, seed)
    with few_threads(float(units.size) * k * iterations):
        means.train(rows, init_centroids=first)
    return unit_rows(np.asarray(means.centroids))


def stream_centers(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    k: int,
    *,
    seed: int = 0,
    rounds: int = 5,
    add_up: Callable[[NDArray[np.float32], Stage], Sums] | None = None,
    quick: bool = False,
) -> NDArray[np.float32]:
    """Clusters stored rows: trains on a sample, then moves the centers by passes over all rows.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending; at least 1.
        k: Number of centers; at most n are made.
        seed: Seed of the sample and of the first centers.
        rounds: Passes over all rows; none if the sample is all of them.
        add_up: Does such a pass, as ``move_centroids`` takes it; None does it here.
        quick: Whether a quarter of the sample and fewer iterations do, as for cells of a search.

    Returns:
        ``(min(k, n), D)`` float32 of unit length.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    k = min(k, len(numbers))
    per_center = _QUICK_PER_CENTER if quick else _PER_CENTER
    wanted = max(min(per_center * k, _SAMPLE_BYTES // (4 * rows.dim)), k)
    with Stage("clustering a sample"):
        units = sample_units(rows, numbers, wanted, seed)
        centers = train_centers(units, k, seed, quick=quick)
    if rounds and len(units) < len(numbers):
        quantizer = faiss.IndexFlatIP(rows.dim)
        quantizer.add(centers)
        index = faiss.IndexIVFFlat(quantizer, rows.dim, k, faiss.METRIC_INNER_PRODUCT)
        move_centroids(index, rows, numbers, Space("cosine", rows.dim), rounds, add_up=add_up)
        centers = quantizer.reconstruct_n(0, k)
    return centers


def sample_units(
    rows: StoreRows, numbers: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.float32]:
    """A random sample of rows, scaled to unit length, ``(min(count, n), D)`` in their order."""
    return unit_rows(rows.read(numbers[np.sort(sample_positions(len(numbers), count, seed))]))


def nearest_centers(
    units: NDArray[np.float32], centers: NDArray[np.float32], count: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest centers of rows, ``(n, count)``, and the cosines; the nearest first."""
    cosines, found = faiss.knn(units, centers, count, faiss.METRIC_INNER_PRODUCT)
    return found, cosines


def assign(
    rows: StoreRows, numbers: NDArray[np.int64], centers: NDArray[np.float32], stage: str
) -> Iterator[Assigned]:
    """All rows with their nearest centers, a bounded number at a time.

    Args:
        rows: The stores' rows.
        numbers: ``(n,)`` which of them, ascending.
        centers: ``(k, D)`` of unit length.
        stage: Name of the stage for the progress.

    Raises:
        StoreError: A row can't be read, or isn't finite.
    """
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    counter = Stage(stage, len(numbers), unit="images")
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        raw = rows.read(some)
        units = unit_rows(raw)
        found, cosines = nearest_centers(units, centers)
        yield Assigned(slice(start, start + len(some)), raw, units, found[:, 0], cosines[:, 0])
        counter.add(len(some))


def _first_centers(units: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Centers far from each other: of a few rows drawn by their distance, the one that helps most.

    The greedy k-means++, as scikit-learn does it.
    """
    if k > _SPREAD_CENTERS:
        return _random_centers(units, k, seed)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(units), min(len(units), max(_SPREAD_ROWS * k, 1024)), replace=False)
    some = units[np.sort(drawn)]
    trials = 2 + int(np.log(k))
    chosen = [int(rng.integers(len(some)))]
    apart = np.maximum(1 - some @ some[chosen[0]], 0)
    while len(chosen) < k:
        apart[chosen] = 0
        sums = np.cumsum(apart, dtype=np.float64)
        if sums[-1] <= 0:  # fewer different rows than centers
            rest = np.setdiff1d(np.arange(len(some)), chosen)
            chosen += rest[: k - len(chosen)].tolist()
            break
        draws = np.searchsorted(sums, rng.random(trials) * sums[-1], side="right")
        tried = np.minimum(draws, len(some) - 1)
        left = np.minimum(apart[:, None], np.maximum(1 - some @ some[tried].T, 0))
        best = int(np.argmin(left.sum(axis=0, dtype=np.float64)))
        chosen.append(int(tried[best]))
        apart = np.ascontiguousarray(left[:, best])
    return some[chosen]


def _random_centers(units: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    return units[np.sort(np.random.default_rng(seed).choice(len(units), k, replace=False))]
