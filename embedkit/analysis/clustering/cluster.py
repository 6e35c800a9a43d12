"""Clusters the images of a store by spherical k-means, and names the clusters by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.analysis.clustering.assignment import applicable_head, clustered
from embedkit.analysis.clustering.auto_k import SAMPLED, choose_k
from embedkit.analysis.clustering.ray_passes import RayPasses
from embedkit.distributed.cluster import RayCluster
from embedkit.errors import StoreError
from embedkit.index.spherical_kmeans import sample_units, stream_centers
from embedkit.index.store_rows import StoreRows
from embedkit.retrieval.metadata import matching_rows
from embedkit.store.annotate import check_annotations, set_annotations
from embedkit.tabular import Tabular
from embedkit.types import MISSING_INTEGER
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.analysis.clustering.assignment import ClusteredRows
    from embedkit.store import StoreMeta
    from embedkit.types import Head
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Clusters", "cluster", "cluster_rows"]

_WRITTEN = ("cluster", "cluster_distance")
_NAMED_SHARE, _MOST_NAMES = 0.1, 3  # classes that make a cluster's name


@dataclass(frozen=True, slots=True, repr=False)
class Clusters(Tabular):
    """The clusters of a store, the largest first: cluster 0 has the most images.

    Attributes:
        path: The store.
        meta: Metadata of the store.
        rows: ``(n,)`` int64, the rows that were clustered, ascending.
        clusters: ``(n,)`` int32, the cluster of each, from 0.
        distances: ``(n,)`` float32, one less the cosine to the cluster's center, 0 to 2.
        sizes: ``(k,)`` int64, images per cluster.
        centers: ``(k, D)`` float32 of unit length.
        names: k names: the commonest classes by the stored classifier, of a tenth of the images or
            more; empty where there is none.
        shares: ``(k,)`` float32, the share of the commonest class; NaN without a classifier.
        was_chosen: Whether the number of clusters was chosen by ``auto``.
    """

    path: Path
    meta: StoreMeta
    rows: NDArray[np.int64]
    clusters: NDArray[np.int32]
    distances: NDArray[np.float32]
    sizes: NDArray[np.int64]
    centers: NDArray[np.float32]
    names: tuple[str, ...]
    shares: NDArray[np.float32]
    was_chosen: bool

    @property
    def mean_distances(self) -> NDArray[np.float32]:
        """``(k,)`` mean distance of the images to their center."""
        sums = np.bincount(self.clusters, self.distances, len(self.sizes))
        return np.asarray(sums / self.sizes, np.float32)

    def _summary(self) -> str:
        return f"{len(self.sizes):,} clusters of {len(self.rows):,} images in {str(self.path)!r}"

    def _columns(self) -> dict[str, Any]:
        with StoreRows.open([self.path]) as rows:
            ids = [name.decode("utf-8", "surrogateescape") for name in rows.ids(self.rows)]
        return {"id": ids, "cluster": self.clusters, "distance": self.distances, "row": self.rows}


@plain_numbers
def cluster(
    store: str | os.PathLike[str],
    k: int | Literal["auto"] = "auto",
    *,
    filters: Sequence[str] = (),
    seed: int = 0,
    rounds: int = 5,
    write: bool = False,
    overwrite: bool = False,
    ray: str | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> Clusters:
    """Clusters the images of a store by the cosine of their embeddings.

    Spherical k-means: trained on a sample of at most 256 rows per cluster, then refined by passes
    over all rows, which are read piece by piece. The same store and seed give the same clusters.
    Clusters that get no image are left out.

    Args:
        store: A store file or folder.
        k: Number of clusters; ``auto`` tries numbers from 2 to 500 on a sample of 10,000 images and
            takes the one whose clusters are told apart best (see ``choose_k``).
        filters: Conditions on the images to cluster, such as ``label=cat``; see ``search``.
        seed: Random seed of the sample and of the first centers.
        rounds: Passes over all rows, 0 or more.
        write: Whether to put the result into the store, as columns ``cluster`` and
            ``cluster_distance``, for filters such as ``cluster=3``; images that don't pass
            ``filters`` have missing values there. See ``annotate``.
        overwrite: Whether such columns that the store has already are replaced.
        ray: Let workers on a Ray cluster pass over the rows: ``local`` starts Ray on this machine,
            ``auto`` finds the cluster that it belongs to; else the cluster's address. All machines
            must see the store. Clusters may then differ in a few images from run to run.
        workers: Number of Ray workers, at most; None starts one per machine.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        Cluster and distance to its center per image.

    Raises:
        StoreError: The store can't be read, an embedding isn't finite, or no image passes the
            filters; or with ``write`` it can't be written, or has such columns already.
        StoreLockedError: With ``write``, another process is writing the store.
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no Ray cluster at the address, or a worker failed.
        ValueError: ``k`` is less than 1 or neither a number nor ``auto``, or a filter is none.
    """
    if k != "auto" and (not isinstance(k, int) or k < 1):
        raise ValueError(f"k must be auto or a number of at least 1, not {k!r}")
    if rounds < 0:
        raise ValueError(f"rounds must be at least 0, not {rounds}")
    on_ray = RayCluster.of(ray, workers)
    with reporting(progress), StoreRows.open([store]) as rows:
        numbers = np.flatnonzero(matching_rows(rows.stores, filters))
        if not len(numbers):
            why = "no image passes the filters" if filters else "holds no images to cluster"
            raise StoreError(f"{rows.stores[0].path}: {why}")
        if write:
            check_annotations(rows.stores[0], _WRITTEN, overwrite=overwrite)
        found = cluster_rows(rows, numbers, k, seed=seed, rounds=rounds, on_ray=on_ray)
        if write:
            _write(found, len(rows), overwrite)
        return found


def cluster_rows(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    k: int | Literal["auto"],
    *,
    seed: int,
    rounds: int = 5,
    on_ray: RayCluster | None = None,
) -> Clusters:
    """As ``cluster``, for some rows, ascending, of open stores; at least one."""
    number = k if isinstance(k, int) else _auto(rows, numbers, seed)
    found = np.empty(len(numbers), np.int32)
    distances = np.empty(len(numbers), np.float32)
    head = applicable_head(rows)
    classes = None if head is None else np.empty(len(numbers), np.int32)

    def put(part: ClusteredRows) -> None:
        found[part.where], distances[part.where] = part.clusters, part.distances
        if classes is not None and part.classes is not None:
            classes[part.where] = part.classes

    if on_ray is None:
        centers = stream_centers(rows, numbers, number, seed=seed, rounds=rounds)
        for part in clustered(rows, numbers, centers, head):
            put(part)
    else:
        with RayPasses.open(on_ray, rows, numbers) as passes:
            centers = stream_centers(
                rows, numbers, number, seed=seed, rounds=rounds, add_up=passes.add_up
            )
            passes.assign(centers, put)
    sizes = np.bincount(found, minlength=len(centers))
    order = np.lexsort((np.arange(len(sizes)), -sizes))[: np.count_nonzero(sizes)]
    new = np.full(len(sizes), -1, np.int32)
    new[order] = np.arange(len(order))
    found = new[found]
    names, shares = _names(found, classes, sizes[order], head)
    store = rows.stores[0]
    return Clusters(
        store.path, store.meta, numbers, found, distances, sizes[order], centers[order], names,
        shares, was_chosen=not isinstance(k, int),
    )  # fmt: skip


def _write(found: Clusters, images: int, overwrite: bool) -> None:
    numbers, distances = np.full(images, MISSING_INTEGER), np.full(images, np.nan)
    numbers[found.rows], distances[found.rows] = found.clusters, found.distances
    columns = dict(zip(_WRITTEN, (numbers, distances), strict=True))
    set_annotations(found.path, columns, overwrite=overwrite)


def _auto(rows: StoreRows, numbers: NDArray[np.int64], seed: int) -> int:
    units = sample_units(rows, numbers, SAMPLED, seed)
    return choose_k(units[np.random.default_rng(seed).permutation(len(units))], seed)


def _names(
    clusters: NDArray[np.int32],
    classes: NDArray[np.int32] | None,
    sizes: NDArray[np.int64],
    head: Head | None,
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The commonest classes of each cluster, as a name, and the share of the first."""
    shares = np.full(len(sizes), np.nan, np.float32)
    if classes is None or head is None:
        return ("",) * len(sizes), shares
    width = len(head.class_names)
    keys, counts = np.unique(clusters.astype(np.int64) * width + classes, return_counts=True)
    owners, numbers = np.divmod(keys, width)
    names = []
    for number, size in enumerate(sizes.tolist()):
        some = slice(*np.searchsorted(owners, (number, number + 1)).tolist())
        order = np.lexsort((numbers[some], -counts[some]))[:_MOST_NAMES]
        common = [
            head.class_names[numbers[some][at]].split(",")[0]
            for at in order.tolist()
            if counts[some][at] >= _NAMED_SHARE * size
        ]
        shares[number] = counts[some].max() / size
        names.append(", ".join(common))
    return tuple(names), shares
