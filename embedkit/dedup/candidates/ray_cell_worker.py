"""What a Ray worker does for candidates: finds cells and nearest rows, and joins rows exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.candidates.ivf_join import nearest_cells
from embedkit.dedup.candidates.neighbours import nearest, vectors_of
from embedkit.dedup.scoring.background import Whitening
from embedkit.dedup.unit_rows import UnitRows
from embedkit.distributed.shared_stores import reopened_by_worker
from embedkit.distributed.worker import reserved_cores

if TYPE_CHECKING:
    import threading

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found

    Nearest = tuple[NDArray[np.int64], NDArray[np.float32]]

__all__ = ["CellWorker"]


class CellWorker:
    """The work of one Ray worker, with the stores open.

    Args:
        settings: ``folder``, the driver's current folder; ``stores``, the path and the fingerprint
            of each; ``centroids``, ``(cells, D)``, where cells are found; ``whitening``, its mean
            and its matrix, where rows are whitened.

    Raises:
        WorkerError: This machine doesn't see the driver's folder.
        StoreError: It doesn't see a store, or sees another one.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._stores = reopened_by_worker(settings["stores"], Path(settings["folder"]))
        self._centroids = settings.get("centroids")
        whitening = settings.get("whitening")
        self._whitening = None if whitening is None else Whitening(*whitening)
        self._threads = reserved_cores()

    def do(self, task: dict[str, Any], _: threading.Event) -> Found | Nearest | NDArray[np.int32]:
        """Finds the cells of ``rows``, or their nearest among ``others``, or joins the two.

        Returns:
            Places among the two, and cosines; or ``(n, count)`` cells.
        """
        rows = self._loaded(task["side"], task["rows"])
        if "others" not in task:
            return self._cells(rows, task["count"])
        others = self._loaded(task["other_side"], task["others"])
        if "count" in task:
            count = min(task["count"], len(others))
            return nearest(self._vectors(rows), self._vectors(others), count, exact=True)
        return exact_join(
            rows, task["threshold"], against=others,
            max_pairs=task["max_pairs"], threads=self._threads,
        )  # fmt: skip

    def _cells(self, rows: UnitRows, count: int) -> NDArray[np.int32]:
        assert self._centroids is not None
        found = [np.empty((0, count), np.int32)]
        for where in rows.pieces():
            raw = rows.coarse(where)[0]  # their lengths change nothing
            part = raw if self._whitening is None else self._whitening.apply(rows.take(where))
            found.append(nearest_cells(part, self._centroids, count))
        return np.concatenate(found)

    def _loaded(self, side: int, numbers: NDArray[np.int64]) -> UnitRows:
        every = UnitRows(self._stores[side].embeddings)
        return every.loaded(np.array(numbers))

    def _vectors(self, rows: UnitRows) -> NDArray[np.float32]:
        return vectors_of(rows, self._whitening)
