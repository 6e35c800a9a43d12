"""What a Ray worker does for a join: finds the cells of rows, and joins rows exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.candidates.ivf_join import nearest_cells
from embedkit.dedup.shared_stores import reopened
from embedkit.dedup.unit_rows import UnitRows
from embedkit.distributed.worker import enter_shared

if TYPE_CHECKING:
    import threading

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found

__all__ = ["CellWorker"]


class CellWorker:
    """The work of one Ray worker, with the stores open.

    Args:
        settings: ``folder``, the driver's current folder; ``stores``, the path and the fingerprint
            of each; ``centroids``, ``(cells, D)``, where cells are found.

    Raises:
        WorkerError: This machine doesn't see the driver's folder.
        StoreError: It doesn't see a store, or sees another one.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        enter_shared(Path(settings["folder"]))
        self._stores = reopened(settings["stores"])
        self._centroids = settings.get("centroids")
        self._threads = faiss.omp_get_max_threads()  # as many as Ray has reserved cores

    def do(self, task: dict[str, Any], _: threading.Event) -> Found | NDArray[np.int32]:
        """Joins ``rows`` with ``others``, in places among the two; or finds the cells of rows."""
        rows = self._loaded(task["side"], task["rows"])
        if "others" not in task:
            assert self._centroids is not None
            found = [
                nearest_cells(rows.coarse(where)[0], self._centroids, task["count"])
                for where in rows.pieces()
            ]
            return np.concatenate(found)
        return exact_join(
            rows, task["threshold"], against=self._loaded(task["other_side"], task["others"]),
            max_pairs=task["max_pairs"], threads=self._threads,
        )  # fmt: skip

    def _loaded(self, side: int, numbers: NDArray[np.int64]) -> UnitRows:
        every = UnitRows(self._stores[side].embeddings)
        return every.loaded(np.array(numbers))
