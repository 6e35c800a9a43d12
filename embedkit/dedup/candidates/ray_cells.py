"""The partitioned join on the workers of a Ray cluster, which read the rows from the stores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.candidates.exact_join import refuse_too_many
from embedkit.dedup.candidates.joins import IvfJoin
from embedkit.distributed.cluster import connected
from embedkit.distributed.pool import Task, run_tasks
from embedkit.distributed.shared_stores import named
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.exact_join import Found
    from embedkit.dedup.candidates.ivf_join import Cells
    from embedkit.dedup.scoring.background import Whitening
    from embedkit.dedup.unit_rows import UnitRows
    from embedkit.distributed.cluster import RayCluster
    from embedkit.store import EmbeddingStore

    Places = NDArray[np.int64]

__all__ = ["RayCells", "RayJoin"]

_WORKER = "embedkit.dedup.candidates.ray_cell_worker:CellWorker"
_ROWS_AT_ONCE = 65536


class RayJoin(IvfJoin):
    """Finds and measures as ``IvfJoin`` does, on the workers of a Ray cluster."""

    def __init__(
        self,
        threshold: float,
        max_pairs: int,
        cluster: RayCluster,
        stores: Sequence[EmbeddingStore],
    ) -> None:
        """Sets what to find.

        Args:
            threshold: The least cosine.
            max_pairs: More are refused.
            cluster: The cluster; all its machines must see the stores.
            stores: Those whose rows are joined: one, or two.
        """
        super().__init__(threshold, max_pairs)
        self._cluster, self._stores = cluster, stores

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``ivf_join``.

        Raises:
            WorkerError: There is no cluster, or a worker failed.
        """
        with connected(self._cluster.address):
            return self._joined(rows, against, RayCells(self._cluster, self._stores, against))


@dataclass(frozen=True)
class RayCells:
    """Does the work of a join in tasks; see ``CellWork``.

    Attributes:
        cluster: The cluster.
        stores: One store, or two.
        second: Any rows of the second one, if there are two.
        whitening: Whitens the rows; not for joins. None leaves them.
    """

    cluster: RayCluster
    stores: Sequence[EmbeddingStore]
    second: UnitRows | None
    whitening: Whitening | None = None

    def cells(
        self, rows: UnitRows, centroids: NDArray[np.float32], count: int
    ) -> NDArray[np.int32]:
        """See ``CellWork``."""
        out = np.empty((len(rows), count), np.int32)
        stage = Stage("finding the cells", len(rows), unit="rows")

        def keep(start: int, found: NDArray[np.int32]) -> None:
            out[start : start + len(found)] = found
            stage.add(len(found))

        def more(start: int) -> dict[str, Any]:
            return {**self._rows(rows, _from(start)), "count": count}

        starts = range(0, len(rows), _ROWS_AT_ONCE)
        self._run("find the cells of rows from", starts, more, keep, centroids=centroids)
        return out

    def join(
        self,
        rows: UnitRows,
        other: UnitRows,
        cells: Cells,
        threshold: float,
        max_pairs: int,
    ) -> list[Found]:
        """See ``CellWork``."""
        found: list[Found] = []
        stage = Stage("comparing cells", len(cells), unit="cells")

        def keep(number: int, part: Found) -> None:
            mine, theirs = cells[number]
            found.append((mine[part[0]], theirs[part[1]], part[2]))
            stage.add()

        def more(number: int) -> dict[str, Any]:
            mine, theirs = cells[number]
            return {
                **self._rows(rows, mine), **self._others(other, theirs),
                "threshold": threshold, "max_pairs": max_pairs,
            }  # fmt: skip

        self._run("compare cell", range(len(cells)), more, keep)
        return found

    def nearest(
        self, rows: UnitRows, other: UnitRows, cells: Cells, count: int
    ) -> tuple[Places, NDArray[np.float32]]:
        """The nearest ones of each row among those that its cell is compared with.

        Returns:
            ``(n, count)`` places in ``other``, the nearest first, and the cosines; both are -1
            where there are no more.
        """
        found = np.full((len(rows), count), -1, np.int64)
        cosines = np.full((len(rows), count), -1, np.float32)
        stage = Stage("finding the nearest images", len(cells), unit="cells")

        def keep(number: int, part: tuple[Places, NDArray[np.float32]]) -> None:
            mine, theirs = cells[number]
            width = part[0].shape[1]
            found[mine, :width] = np.where(part[0] < 0, -1, theirs[part[0]]) if len(theirs) else -1
            cosines[mine, :width] = part[1]
            stage.add()

        def more(number: int) -> dict[str, Any]:
            mine, theirs = cells[number]
            return {**self._rows(rows, mine), **self._others(other, theirs), "count": count}

        self._run("find the nearest in cell", range(len(cells)), more, keep)
        return found, cosines

    def join_sample(
        self, sample: UnitRows, other: UnitRows, threshold: float, max_pairs: int
    ) -> Found:
        """See ``CellWork``."""
        found: list[Found] = []

        def keep(start: int, part: Found) -> None:
            numbers = other.numbers[start + part[1]]
            found.append((sample.numbers[part[0]], numbers, part[2]))
            refuse_too_many(sum(len(one[0]) for one in found), max_pairs, threshold)

        def more(start: int) -> dict[str, Any]:
            return {
                **self._rows(sample, slice(None)), **self._others(other, _from(start)),
                "threshold": threshold, "max_pairs": max_pairs,
            }  # fmt: skip

        starts = range(0, len(other), _ROWS_AT_ONCE)
        self._run("measure recall by rows from", starts, more, keep)
        first, second, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
        return first, second, cosines

    def _rows(self, rows: UnitRows, places: Places | slice) -> dict[str, Any]:
        return {"rows": rows.numbers[places], "side": self._side(rows)}

    def _others(self, rows: UnitRows, places: Places | slice) -> dict[str, Any]:
        return {"others": rows.numbers[places], "other_side": self._side(rows)}

    def _side(self, rows: UnitRows) -> int:
        return int(self.second is not None and rows.embeddings is self.second.embeddings)

    def _run(
        self,
        name: str,
        numbers: Sequence[int],
        more: Callable[[int], dict[str, Any]],
        keep: Callable[[int, Any], None],
        **settings: Any,
    ) -> None:
        """Does a task for each number, with what ``more`` gives; ``keep`` gets the results."""
        tasks = [
            Task(f"{name} {number}", {"number": number}, more=partial(more, number))
            for number in numbers
        ]
        settings |= {"folder": str(Path.cwd()), "stores": named(self.stores)}
        if self.whitening is not None:
            settings["whitening"] = self.whitening.mean, self.whitening.matrix
        run_tasks(
            self.cluster, _WORKER, settings, tasks,
            lambda task, result: keep(task.values["number"], result),
        )  # fmt: skip


def _from(start: int) -> slice:
    return slice(start, start + _ROWS_AT_ONCE)
