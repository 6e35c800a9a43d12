"""The part of an index build that the workers of a Ray cluster do: to read all rows.

They add the rows as parts, and find the nearest rows of the held-out queries. The driver trains
before, and joins the parts after.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.distributed.pool import Task, run_tasks
from embedkit.index.brute_force import merge_nearest
from embedkit.index.parts import missing_spans
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedkit.distributed.cluster import RayCluster
    from embedkit.index.brute_force import Nearest
    from embedkit.index.build_plan import Plan
    from embedkit.index.working_dir import PartialIndex

__all__ = ["NEAREST", "RayParts", "rows_per_part"]

NEAREST = 10
"""Neighbours of each held-out query that an index is tuned by."""

_MOST_PARTS = 512  # fewer than the files that a process may have open
_WORKER = "embedkit.index.ray_worker:IndexWorker"


def rows_per_part(count: int, block_rows: int) -> int:
    """How many rows a task adds: whole blocks, of which there are at most 512 parts."""
    return -(-count // (_MOST_PARTS * block_rows)) * block_rows


@dataclass(frozen=True)
class RayParts:
    """Runs the tasks of one build.

    Attributes:
        cluster: The Ray cluster.
        partial: The working folder, which all workers must see.
        plan: What is built; the index is trained.
    """

    cluster: RayCluster
    partial: PartialIndex
    plan: Plan

    def add(self, stop: int, block_rows: int) -> None:
        """Adds all positions before ``stop`` that are in no part yet.

        Raises:
            WorkerError: A worker failed; finished parts are kept.
        """
        step = rows_per_part(stop, block_rows)
        spans = [*missing_spans(self.partial.parts(), stop, step)]
        stage = Stage("adding", stop, unit="rows", done=stop - _rows_of(spans))
        self._run("add rows", spans, lambda start, last, _: stage.add(last - start), add=True)

    def nearest(self, stop: int, block_rows: int) -> Nearest:
        """The nearest rows before ``stop`` of each held-out query.

        Raises:
            WorkerError: A worker failed.
        """
        spans = [*missing_spans([], stop, rows_per_part(stop, block_rows))]
        stage = Stage("searching exactly", stop, unit="rows")
        found: dict[int, Nearest] = {}

        def tell(start: int, last: int, result: Nearest) -> None:
            found[start] = result
            stage.add(last - start)

        self._run("compare rows", spans, tell, add=False)
        shape = self.plan.held, NEAREST
        nearest: Nearest = np.full(shape, -1), np.full(shape, -np.inf, np.float32)
        for start in sorted(found):
            nearest = merge_nearest(nearest, found[start])
        return nearest

    def _run(
        self,
        name: str,
        spans: Sequence[tuple[int, int]],
        tell: Callable[[int, int, Any], None],
        *,
        add: bool,
    ) -> None:
        tasks = [
            Task(f"{name} {start}-{stop - 1}", {"start": start, "stop": stop, "add": add})
            for start, stop in spans
        ]
        settings = {
            "folder": str(Path.cwd()),
            "output": str(self.partial.output.absolute()),
            "plan": self.plan.to_config(),
            "nearest": NEAREST,
        }
        run_tasks(
            self.cluster, _WORKER, settings, tasks,
            lambda task, result: tell(task.values["start"], task.values["stop"], result),
        )  # fmt: skip


def _rows_of(spans: Sequence[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in spans)
