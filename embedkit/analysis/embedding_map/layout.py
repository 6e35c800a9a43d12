"""Places all images of a store on the plane: learned on a sample, applied to all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.analysis.embedding_map.projection import (
    fitted,
    principal_axes,
    takes_umap,
    umap_points,
)
from embedkit.index.sample_neighbors import SampleNeighbors
from embedkit.utils.progress import Stage
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.analysis.embedding_map.projection import LayoutMethod
    from embedkit.index.store_rows import StoreRows

__all__ = ["SAMPLE", "MapLayout", "lay_out_store", "place_by_neighbors"]

SAMPLE = 20_000
"""Images that the projection is learned on, if nothing else is asked for."""
_NEIGHBORS = 8
_BLOCK_BYTES = 32 * 2**20
_NEAREST = 1e-6  # 1 - cosine; what is nearer is a copy


class MapLayout(NamedTuple):
    """The map of a store.

    Attributes:
        points: ``(N, 2)`` float32 in the unit square, by row.
        method: ``umap`` or ``pca``.
        learned: Number of images that the projection was learned on.
    """

    points: NDArray[np.float32]
    method: str
    learned: int


def lay_out_store(rows: StoreRows, method: LayoutMethod, sample: int, seed: int) -> MapLayout:
    """Places every image of a store on the plane.

    The projection is learned on a random sample. PCA projects all rows on the axes of the sample.
    UMAP gives the sample's positions, and ``place_by_neighbors`` those of the rest. Rows are read
    piece by piece: memory is that of the sample and 8 bytes per image.

    Args:
        rows: The store's rows.
        method: ``umap``, ``pca``, or ``auto``: UMAP if it is installed.
        sample: Images that the projection is learned on, at most.
        seed: Random seed of the sample and of UMAP.

    Raises:
        MissingExtraError: ``method`` is ``umap``, and umap-learn isn't installed.
        StoreError: A row can't be read, or isn't finite.
    """
    count = len(rows)
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:sample])
    points = np.zeros((count, 2), np.float32)
    is_umap = takes_umap(method, len(chosen))
    units = unit_rows(rows.read(chosen))
    if is_umap:
        with Stage("placing the images", unit="images"):
            points[chosen] = umap_points(units, seed)
        if len(chosen) < count:
            _place_rest(rows, chosen, units, points, seed)
    elif count:
        mean, axes = principal_axes(units)
        for some, block in _blocks(rows, np.arange(count)):
            points[some] = (block - mean) @ axes
    return MapLayout(fitted(points), "umap" if is_umap else "pca", len(chosen))


def place_by_neighbors(
    cosines: NDArray[np.float32], positions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Positions of rows from those of their nearest sampled rows.

    The mean of the neighbors' positions, weighted by the inverse square of 1 - cosine: a copy of a
    sampled row lies where that one lies.

    Args:
        cosines: ``(n, k)`` to the neighbors; below -1 where there is none.
        positions: ``(n, k, 2)`` of the neighbors.

    Returns:
        ``(n, 2)`` float32.
    """
    weights = np.maximum(1 - cosines.astype(np.float64), _NEAREST) ** -2
    weights[cosines < -1.5] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nk,nkd->nd", weights, positions), np.float32)


def _place_rest(
    rows: StoreRows,
    chosen: NDArray[np.int64],
    units: NDArray[np.float32],
    points: NDArray[np.float32],
    seed: int,
) -> None:
    """Fills in the positions of all rows but those of the sample."""
    sampled = points[chosen]
    neighbors = SampleNeighbors(units, seed)
    rest = np.setdiff1d(np.arange(len(points)), chosen, assume_unique=True)
    for some, block in _blocks(rows, rest):
        found, cosines = neighbors.search(block, _NEIGHBORS)
        points[some] = place_by_neighbors(cosines, sampled[found])


def _blocks(
    rows: StoreRows, numbers: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows of unit length with their numbers, a bounded number at a time."""
    step = max(1, _BLOCK_BYTES // (4 * rows.dim))
    stage = Stage("placing the images", len(numbers), unit="images")
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        yield some, unit_rows(rows.read(some))
        stage.add(len(some))
