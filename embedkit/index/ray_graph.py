"""The passes over the rows of a kNN graph, by the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.distributed.pool import Task, opened_pool
from embedkit.distributed.shared_stores import named
from embedkit.index.graph_passes import GraphPasses, Joined, rows_at_once
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.distributed.cluster import RayCluster
    from embedkit.distributed.pool import Pool
    from embedkit.index.graph_passes import Cells
    from embedkit.index.store_rows import StoreRows

    Places = NDArray[np.int64]

__all__ = ["RayGraphPasses", "graph_passes"]

_WORKER = "embedkit.index.ray_graph_worker:GraphWorker"
_BLOCKS = 8  # of rows of a task


@contextmanager
def graph_passes(
    rows: StoreRows, numbers: Places, cluster: RayCluster | None
) -> Iterator[GraphPasses]:
    """What reads the rows of a graph: this process, or the workers of a cluster.

    Args:
        rows: The stores; all machines of the cluster must see them.
        numbers: ``(n,)`` which of their rows, ascending.
        cluster: The cluster; None for this process.

    Raises:
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no cluster.
    """
    if cluster is None:
        yield GraphPasses(rows, numbers)
        return
    settings = {"folder": str(Path.cwd()), "stores": named(rows.stores)}
    with opened_pool(cluster, _WORKER, settings) as pool:
        yield RayGraphPasses(rows, numbers, pool)


class RayGraphPasses(GraphPasses):
    """As ``GraphPasses``, by workers, with the same results; get it from ``graph_passes``."""

    def __init__(self, rows: StoreRows, numbers: Places, pool: Pool) -> None:
        super().__init__(rows, numbers)
        self._pool = pool

    def probe(self, centers: NDArray[np.float32]) -> NDArray[np.int32]:
        """As one process finds them.

        Raises:
            WorkerError: A worker failed.
        """
        found: dict[int, NDArray[np.int32]] = {}
        stage = Stage("assigning cells", len(self.numbers), unit="images")

        def add(task: Task, result: NDArray[np.int32]) -> None:
            found[task.values["start"]] = result
            stage.add(len(result))

        self._pool.run(self._spans("assign cells", {"centers": centers}), None, add)
        return np.concatenate([found[start] for start in sorted(found)])

    def join(self, cells: Cells, k: int, put: Callable[[Places, Places, Joined], None]) -> None:
        """As one process finds them, a cell per task.

        Raises:
            WorkerError: A worker failed.
        """

        def values(cell: int) -> dict[str, Any]:
            return {"numbers": self.numbers[cells.near(cell)], "own": cells.own(cell), "k": k}

        def add(task: Task, result: tuple[Any, Any]) -> None:
            cell = task.values["cell"]
            put(cells.members(cell), cells.near(cell), Joined(*result))

        tasks = (
            Task(f"find neighbors, cell {cell}", {"cell": cell}, more=partial(values, cell))
            for cell in cells
        )
        self._pool.run(tasks, None, add)

    def nearest_others(self, places: Places) -> NDArray[np.float32]:
        """As one process finds them.

        Raises:
            WorkerError: A worker failed.
        """
        best = np.full(len(places), -1, np.float32)

        def add(_: Task, result: NDArray[np.float32]) -> None:
            np.maximum(best, result, out=best)

        more = {"queries": self.numbers[places], "places": places}
        self._pool.run(self._spans("compare rows", more), None, add)
        return best

    def _spans(self, name: str, more: dict[str, Any]) -> Iterator[Task]:
        """A task for each span of rows: whole blocks, so that results don't depend on the spans."""
        step = _BLOCKS * rows_at_once(self.rows.dim)
        for start in range(0, len(self.numbers), step):
            numbers = self.numbers[start : start + step]
            yield Task(
                f"{name} from row {start}",
                {"start": start, "numbers": numbers},
                more=lambda: more,
            )
