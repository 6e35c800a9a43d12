"""What a Ray worker does for a clustering: reads rows, and finds the nearest center of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.clustering.assignment import applicable_head, clustered
from embedkit.distributed.shared_stores import reopened_by_worker
from embedkit.index.openmp import respect_cores
from embedkit.index.spherical_kmeans import assign
from embedkit.index.store_rows import StoreRows
from embedkit.index.streaming_kmeans import add_to_nearest

if TYPE_CHECKING:
    import threading

    from numpy.typing import NDArray

    from embedkit.index.streaming_kmeans import Sums

    Clustered = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32] | None]

__all__ = ["ClusterWorker"]


class ClusterWorker:
    """The work of one Ray worker, with the stores open.

    Args:
        settings: ``folder``, the driver's current folder; ``stores``, the path and the fingerprint
            of each.

    Raises:
        WorkerError: This machine doesn't see the driver's folder.
        StoreError: It doesn't see a store, or sees another one.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._rows = StoreRows(reopened_by_worker(settings["stores"], Path(settings["folder"])))
        respect_cores()

    def do(self, task: dict[str, Any], _: threading.Event) -> Sums | Clustered:
        """Finds the nearest of ``centers`` for the rows ``numbers``.

        Returns:
            With ``assign`` the clusters, distances and classes of the rows; else the sums of the
            rows of each center, and how many they are.
        """
        numbers, centers = np.array(task["numbers"]), np.array(task["centers"])
        if task["assign"]:
            return self._assigned(numbers, centers)
        sums, counts = np.zeros_like(centers), np.zeros(len(centers), np.int64)
        for part in assign(self._rows, numbers, centers, "adding up clusters"):
            add_to_nearest(sums, counts, part.units, part.clusters)
        return sums, counts

    def _assigned(self, numbers: NDArray[np.int64], centers: NDArray[np.float32]) -> Clustered:
        head = applicable_head(self._rows)
        parts = list(clustered(self._rows, numbers, centers, head))
        classes = [part.classes for part in parts if part.classes is not None]
        return (
            np.concatenate([part.clusters for part in parts]),
            np.concatenate([part.distances for part in parts]),
            np.concatenate(classes) if classes else None,
        )
