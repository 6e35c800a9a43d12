"""Selects a subset of stored images: diverse, representative, unique or balanced."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedkit.analysis.clustering.cluster import cluster_rows
from embedkit.analysis.selection.balanced import select_balanced
from embedkit.analysis.selection.classes import classes_of
from embedkit.analysis.selection.coverage import coverage_of
from embedkit.analysis.selection.diverse import select_diverse
from embedkit.analysis.selection.quota import Quota
from embedkit.analysis.selection.representative import select_representative
from embedkit.analysis.selection.unique import select_unique
from embedkit.distributed.cluster import RayCluster
from embedkit.errors import StoreError
from embedkit.index.knn_graph import knn_graph
from embedkit.index.ray_graph import graph_passes
from embedkit.index.store_rows import StoreRows
from embedkit.retrieval.metadata import matching_rows
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.analysis.selection.coverage import Coverage
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Subset", "SubsetMethod", "select_subset"]

SubsetMethod = Literal["diverse", "representative", "unique", "balanced"]

_BY_NEIGHBORS = ("representative", "unique")
_LEAST_NEIGHBORS, _MOST_NEIGHBORS = 16, 64


@dataclass(frozen=True, slots=True, repr=False)
class Subset(Tabular):
    """Images that were selected without labels, in the order of selection.

    Attributes:
        stores: The stores; rows are numbered consecutively across them.
        method: How they were selected.
        candidates: How many images passed the filters or were chosen before.
        already_chosen: How many were chosen before, by ``seed_from``.
        rows: ``(n,)`` int64 row numbers.
        scores: ``(n,)`` float32. Diverse: distance to the nearest image selected before; 2, the
            greatest there is, for a first one. Representative: what the image added to the value.
            Unique: distance to the nearest other image. Balanced: distance to the center of its
            cluster.
        groups: n names: the label or class that ``per_class`` counts; for ``balanced`` without it
            the number of the cluster; else empty.
        coverage: How well the selected and the already chosen images cover the candidates.
    """

    stores: tuple[Path, ...]
    method: SubsetMethod
    candidates: int
    already_chosen: int
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    groups: tuple[str, ...]
    coverage: Coverage

    def _summary(self) -> str:
        return f"{len(self.rows):,} {self.method} images of {self.candidates:,}"

    def _columns(self) -> dict[str, Any]:
        with StoreRows.open(self.stores) as rows:
            names = _ids(rows, self.rows)
        return {
            "id": names,
            "rank": np.arange(1, len(names) + 1),
            "score": self.scores,
            "group": list(self.groups),
        }


@plain_numbers
def select_subset(
    stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    method: SubsetMethod,
    count: int,
    *,
    filters: Sequence[str] = (),
    per_class: int | None = None,
    seed_from: Iterable[str] = (),
    neighbors: int | None = None,
    clusters: int | Literal["auto"] = "auto",
    seed: int = 0,
    ray: str | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> Subset:
    """Selects some images of stores by their embeddings, without labels.

    - ``diverse``: images far from each other (k-center greedy). No image is far from a selected
      one, but odd images are selected first.
    - ``representative``: images that stand for many others (facility location over the nearest
      neighbors, lazy greedy). Dense regions get more images.
    - ``unique``: the images farthest from their nearest other image.
    - ``balanced``: as many images of each cluster, at random within a cluster.

    The same stores, options and seed give the same selection. Memory is bounded: some blocks of
    rows and some 100 bytes per image; the nearest neighbors lie in temporary files, 16 bytes per
    image and neighbor.

    Args:
        stores: Stores of one backbone.
        method: How to select.
        count: How many images; fewer if there are no more.
        filters: Conditions on the images, such as ``label=cat``; see ``search``.
        per_class: At most so many images of one class: of one label if the stores have labels, else
            of one most probable class by the stored classifier.
        seed_from: Ids of images that were chosen before: they aren't selected again, and the new
            ones complete them. The filters don't apply to them.
        neighbors: For ``representative``: neighbors per image that it can stand for; None takes
            twice the images per selected one, from 16 to 64.
        clusters: For ``balanced``: number of clusters, or ``auto``; see ``cluster``.
        seed: Random seed.
        ray: For ``representative`` and ``unique``: let workers on a Ray cluster find the neighbors:
            ``local`` starts Ray on this machine, ``auto`` finds the cluster that it belongs to;
            else the cluster's address. All machines must see the stores. The selection is that of
            one process; scores are rounded differently on another number of threads.
        workers: Number of Ray workers, at most; None starts one per machine.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreMismatchError: Two stores have different embedding settings.
        StoreError: A store can't be read, an embedding isn't finite, no image passes the filters,
            an id of ``seed_from`` isn't there, or there are no classes for ``per_class``.
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no Ray cluster at the address, or a worker failed.
        ValueError: A number is less than 1, ``method`` or a filter is none, or ``ray`` is given for
            another method.
    """
    paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
    _check(paths, method, count, per_class, neighbors, clusters)
    cluster = RayCluster.of(ray, workers)
    if cluster is not None and method not in _BY_NEIGHBORS:
        raise ValueError(f"ray goes with {' and '.join(_BY_NEIGHBORS)} only, not with {method}")
    with reporting(progress), StoreRows.open(paths) as rows:
        matching = matching_rows(rows.stores, filters)
        if not matching.any():
            why = "no image passes the filters" if filters else "holds no images to select from"
            raise StoreError(f"{rows.stores[0].path}: {why}")
        before = _rows_of(rows, seed_from)
        matching[before] = True
        numbers = np.flatnonzero(matching)
        chosen = np.searchsorted(numbers, before)
        groups, names = (None, ()) if per_class is None else classes_of(rows, numbers)
        quota = Quota(len(numbers), groups, per_class or 1)
        quota.take_all(chosen.tolist())
        group_names = np.array(names, object)[groups] if groups is not None else None
        if method == "diverse":
            places, scores = select_diverse(rows, numbers, count, quota, chosen=chosen, seed=seed)
        elif method == "balanced":
            found = cluster_rows(rows, numbers, clusters, seed=seed)
            places = select_balanced(found.clusters, count, quota, chosen=chosen, seed=seed)
            scores = found.distances[places]
            if group_names is None:
                group_names = found.clusters.astype(str).astype(object)
        else:
            places, scores = _by_neighbors(
                rows, numbers, method, count, quota, chosen, neighbors, seed, cluster
            )
        everything = np.concatenate([chosen, places])
        return Subset(
            tuple(map(Path, paths)),
            method,
            len(numbers),
            len(chosen),
            numbers[places],
            scores,
            ("",) * len(places) if group_names is None else tuple(group_names[places].tolist()),
            coverage_of(rows, numbers, everything, seed),
        )


def _check(
    paths: Sequence[str | os.PathLike[str]],
    method: str,
    count: int,
    per_class: int | None,
    neighbors: int | None,
    clusters: int | Literal["auto"],
) -> None:
    if not paths:
        raise ValueError("no store to select from")
    for number, path in enumerate(map(Path, paths)):
        if path.resolve() in {Path(other).resolve() for other in paths[:number]}:
            raise ValueError(f"{path}: given twice, its images would count twice")
    if method not in get_args(SubsetMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(SubsetMethod))}: {method!r}")
    given = {"count": count, "per_class": per_class, "neighbors": neighbors}
    for name, value in given.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if clusters != "auto" and (not isinstance(clusters, int) or clusters < 1):
        raise ValueError(f"clusters must be auto or a number of at least 1, not {clusters!r}")


def _by_neighbors(
    rows: StoreRows,
    numbers: NDArray[np.int64],
    method: SubsetMethod,
    count: int,
    quota: Quota,
    chosen: NDArray[np.int64],
    neighbors: int | None,
    seed: int,
    cluster: RayCluster | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    with (
        tempfile.TemporaryDirectory(prefix="embedkit-select-") as name,
        graph_passes(rows, numbers, cluster) as passes,
    ):
        folder = Path(name)
        if method == "unique":
            graph = knn_graph(rows, numbers, 1, folder, seed=seed, passes=passes)
            return select_unique(passes, graph, count, quota)
        wanted = 2 * len(numbers) // (count + len(chosen))
        k = neighbors or int(np.clip(wanted, _LEAST_NEIGHBORS, _MOST_NEIGHBORS))
        graph = knn_graph(rows, numbers, k, folder, seed=seed, passes=passes)
        return select_representative(graph, count, quota, folder, chosen=chosen)


def _rows_of(rows: StoreRows, ids: Iterable[str]) -> NDArray[np.int64]:
    """The rows of some ids, ascending."""
    found: set[int] = set()
    for name in ids:
        start = 0
        for store in rows.stores:
            if name in store:
                found.add(start + store.row_of(name))
                break
            start += len(store)
        else:
            raise StoreError(f"{rows.stores[0].path}: has no image {name!r} of those chosen before")
    return np.array(sorted(found), np.int64)


def _ids(rows: StoreRows, numbers: NDArray[np.int64]) -> list[str]:
    """The ids of rows in any order, read in the order of the files."""
    distinct, back = np.unique(numbers, return_inverse=True)
    names = [name.decode("utf-8", "surrogateescape") for name in rows.ids(distinct)]
    return [names[place] for place in back.tolist()]
