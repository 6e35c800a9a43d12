"""Passes over all rows of a clustering, by the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.clustering.assignment import ClusteredRows
from embedkit.distributed.pool import Task, opened_pool
from embedkit.distributed.shared_stores import named
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.distributed.cluster import RayCluster
    from embedkit.distributed.pool import Pool
    from embedkit.index.store_rows import StoreRows
    from embedkit.index.streaming_kmeans import Sums

__all__ = ["RayPasses"]

_WORKER = "embedkit.analysis.clustering.ray_worker:ClusterWorker"
_TASK_BYTES = 256 * 2**20  # of float32 rows
_TASKS_PER_WORKER = 4  # at least: those that end early take another one


class RayPasses:
    """Reads some rows of stores again and again, in workers; get it from ``RayPasses.open``.

    The workers live as long as it does. The sums of a pass are added up in the order in which tasks
    end, so that they may differ in their last bits from run to run.
    """

    def __init__(self, pool: Pool, numbers: NDArray[np.int64], dim: int) -> None:
        self._pool, self._numbers = pool, numbers
        most = max(1, _TASK_BYTES // (4 * dim))
        self._step = max(1, min(most, -(-len(numbers) // (_TASKS_PER_WORKER * pool.workers))))

    @classmethod
    @contextmanager
    def open(
        cls, cluster: RayCluster, rows: StoreRows, numbers: NDArray[np.int64]
    ) -> Iterator[RayPasses]:
        """Connects to the cluster.

        Args:
            cluster: The cluster; all its machines must see the stores.
            rows: The stores.
            numbers: ``(n,)`` which of their rows are read, ascending.

        Raises:
            MissingExtraError: Ray isn't installed.
            WorkerError: There is no cluster.
        """
        settings = {"folder": str(Path.cwd()), "stores": named(rows.stores)}
        with opened_pool(cluster, _WORKER, settings) as pool:
            yield cls(pool, numbers, rows.dim)

    def add_up(self, centers: NDArray[np.float32], stage: Stage) -> Sums:
        """The sums of the rows that are nearest to each center, and how many they are.

        Raises:
            WorkerError: A worker failed.
        """
        sums, counts = np.zeros_like(centers), np.zeros(len(centers), np.int64)

        def add(task: Task, result: Sums) -> None:
            sums[:] += result[0]
            counts[:] += result[1]
            stage.add(len(task.values["numbers"]))

        self._run("add up clusters", {"centers": centers, "assign": False}, add)
        return sums, counts

    def assign(self, centers: NDArray[np.float32], put: Callable[[ClusteredRows], None]) -> None:
        """Finds the clusters of all rows.

        Args:
            centers: ``(k, D)`` of unit length.
            put: Called with the rows of each task; ``where`` are places among ``numbers``.

        Raises:
            WorkerError: A worker failed.
        """
        stage = Stage("assigning clusters", len(self._numbers), unit="images")

        def add(task: Task, result: tuple[Any, Any, Any]) -> None:
            start = task.values["start"]
            put(ClusteredRows(slice(start, start + len(result[0])), *result))
            stage.add(len(result[0]))

        self._run("assign clusters", {"centers": centers, "assign": True}, add)

    def _run(
        self, name: str, values: dict[str, Any], on_result: Callable[[Task, Any], None]
    ) -> None:
        starts = range(0, len(self._numbers), self._step)
        tasks = (
            Task(
                f"{name} from row {start}",
                {"start": start, "numbers": self._numbers[start : start + self._step]},
                more=lambda: values,
            )
            for start in starts
        )
        self._pool.run(tasks, None, on_result)
