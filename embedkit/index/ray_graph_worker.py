"""What a Ray worker does for a kNN graph: reads rows, and finds their cells and neighbors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.distributed.shared_stores import reopened_by_worker
from embedkit.index.graph_passes import highest_cosines, join, probe, read_units
from embedkit.index.openmp import respect_cores
from embedkit.index.store_rows import StoreRows

if TYPE_CHECKING:
    import threading

    from numpy.typing import NDArray

    Found = tuple[NDArray[np.int32], NDArray[np.float32]]

__all__ = ["GraphWorker"]


class GraphWorker:
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

    def do(
        self, task: dict[str, Any], _: threading.Event
    ) -> Found | NDArray[np.int32] | NDArray[np.float32]:
        """Finds something for the rows ``numbers``.

        Returns:
            With ``centers`` their nearest cells; with ``queries`` the highest cosine of each of
            those rows to them; else the neighbors of the rows ``own`` among them, and cosines.
        """
        numbers = np.array(task["numbers"])
        if "centers" in task:
            return probe(self._rows, numbers, np.array(task["centers"]))
        if "queries" in task:
            queries = read_units(self._rows, np.array(task["queries"]))
            own = np.array(task["places"]) - task["start"]
            return highest_cosines(self._rows, numbers, queries, own)
        found = [one for _, one in join(self._rows, numbers, np.array(task["own"]), task["k"])]
        return (
            np.concatenate([one.places for one in found]),
            np.concatenate([one.cosines for one in found]),
        )
