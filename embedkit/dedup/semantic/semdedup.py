"""SemDeDup: keeps one of the images of a cluster that are alike beyond a threshold.

Source: Abbas, Tirumala, Simig, Ganguli, Morcos, "SemDeDup: Data-efficient learning at web-scale
through semantic deduplication" (2023), arXiv 2303.09540, section 3 and its published code: within
each k-means cluster the images are sorted by their distance to the center, and an image is removed
if its cosine to any one before it, removed or not, is above 1 - epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedkit.dedup.semantic.within_clusters import nearest_before
from embedkit.errors import StoreError
from embedkit.index.spherical_kmeans import assign, stream_centers
from embedkit.index.store_rows import StoreRows
from embedkit.retrieval.metadata import matching_rows
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.utils.progress import ProgressCallback

__all__ = ["KeptOf", "SemanticSelection", "semantic_dedup"]

KeptOf = Literal["farthest", "nearest"]

_PER_CLUSTER = 1000  # images, if the number of clusters isn't given


@dataclass(frozen=True, slots=True, repr=False)
class SemanticSelection(Tabular):
    """Which images SemDeDup keeps for training; the removed ones are alike, not duplicates.

    Attributes:
        path: The store.
        eps: The epsilon: an image is removed if its cosine to an earlier one is above 1 - epsilon.
        keep: Which image of those alike comes first.
        num_clusters: Number of clusters that have images.
        rows: ``(n,)`` int64, the rows that were examined, ascending.
        clusters: ``(n,)`` int32, their clusters.
        distances: ``(n,)`` float32, 1 - cosine to the cluster's center.
        kept: ``(n,)`` bool.
        similar: ``(n,)`` int64, the row of the most similar image before it in its cluster; -1 for
            the first one. It may be a removed one itself.
        cosines: ``(n,)`` float32 to that; -1 for the first one.
    """

    path: Path
    eps: float
    keep: KeptOf
    num_clusters: int
    rows: NDArray[np.int64]
    clusters: NDArray[np.int32]
    distances: NDArray[np.float32]
    kept: NDArray[np.bool_]
    similar: NDArray[np.int64]
    cosines: NDArray[np.float32]

    @property
    def num_kept(self) -> int:
        """Images that are kept."""
        return int(np.count_nonzero(self.kept))

    def _summary(self) -> str:
        return f"keeps {self.num_kept:,} of {len(self.rows):,} images at epsilon {self.eps:.4g}"

    def _columns(self) -> dict[str, Any]:
        with StoreRows.open([self.path]) as rows:
            ids = [name.decode("utf-8", "surrogateescape") for name in rows.ids(self.rows)]
        return {
            "id": ids,
            "cluster": self.clusters,
            "kept": self.kept,
            "similar_row": self.similar,
            "cosine": self.cosines,
        }


@plain_numbers
def semantic_dedup(
    store: str | os.PathLike[str],
    *,
    keep_fraction: float | None = None,
    eps: float | None = None,
    k: int | None = None,
    keep: KeptOf = "farthest",
    filters: Sequence[str] = (),
    seed: int = 0,
    progress: bool | ProgressCallback = False,
) -> SemanticSelection:
    """Selects images for training by SemDeDup: thins out where images are alike.

    It is no search for duplicates: images of one motif are alike, and most removed ones are copies
    of nothing. Nothing is deleted. Rows are read cluster by cluster, in bounded memory.

    Args:
        store: A store file or folder.
        keep_fraction: Share of the images to keep, above 0 and at most 1: the largest epsilon is
            taken that keeps as many. Equal cosines stay together, so that a few more may be kept.
        eps: Epsilon, 0 to 2, instead of ``keep_fraction``.
        k: Number of clusters; None: one per 1,000 images.
        keep: Which of the images that are alike is kept: the one ``farthest`` from the center of
            its cluster, as published, or the ``nearest``.
        filters: Conditions on the images to examine, such as ``label=cat``; see ``search``.
        seed: Seed of the clusters.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: The store can't be read, an embedding isn't finite, or no image passes the
            filters.
        ValueError: Not one of ``keep_fraction`` and ``eps`` is given, or a value is out of range.
    """
    _check(keep_fraction, eps, k, keep)
    with reporting(progress), StoreRows.open([store]) as rows:
        numbers = np.flatnonzero(matching_rows(rows.stores, filters))
        if not len(numbers):
            why = "no image passes the filters" if filters else "holds no images"
            raise StoreError(f"{rows.stores[0].path}: {why}")
        wanted = k or ceil(len(numbers) / _PER_CLUSTER)
        centers = stream_centers(rows, numbers, wanted, seed=seed)
        clusters = np.empty(len(numbers), np.int32)
        distances = np.empty(len(numbers), np.float32)
        for part in assign(rows, numbers, centers, "assigning clusters"):
            clusters[part.where] = part.clusters
            distances[part.where] = np.maximum(1 - part.cosines, 0)
        first = -distances if keep == "farthest" else distances
        order = np.lexsort((np.arange(len(numbers)), first, clusters))
        found = nearest_before(rows, numbers, clusters, order)
        if eps is None:
            eps = _eps_for(found.cosines, keep_fraction or 1.0)
        return SemanticSelection(
            rows.stores[0].path,
            eps,
            keep,
            len(np.unique(clusters)),
            numbers,
            clusters,
            distances,
            found.cosines <= 1 - eps,
            np.where(found.places >= 0, numbers[found.places], -1),
            found.cosines,
        )


def _eps_for(cosines: NDArray[np.float32], fraction: float) -> float:
    """The largest epsilon that keeps at least this share."""
    count = ceil(fraction * len(cosines))
    return 1 - float(np.partition(cosines, count - 1)[count - 1])


def _check(keep_fraction: float | None, eps: float | None, k: int | None, keep: str) -> None:
    if (keep_fraction is None) == (eps is None):
        raise ValueError("give one of keep_fraction=0.7 and eps=0.05")
    if keep_fraction is not None and not 0 < keep_fraction <= 1:
        raise ValueError(f"keep_fraction must be above 0 and at most 1, not {keep_fraction}")
    if eps is not None and not 0 <= eps <= 2:
        raise ValueError(f"eps must be from 0 to 2, not {eps}")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if keep not in get_args(KeptOf):
        raise ValueError(f"keep must be one of {', '.join(get_args(KeptOf))}, not {keep!r}")
