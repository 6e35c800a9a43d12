"""Runs a frozen plan on several devices, one worker process per device."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedkit.extraction.checkpoints import Checkpoints
from embedkit.extraction.multi_gpu.processes import run_processes
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.extraction.runner import EMBEDDING, ExtractResult
from embedkit.store.object_store import url_for_workers
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from embedkit.backbones.config import LoadConfig
    from embedkit.engines import EngineChoice
    from embedkit.extraction.checkpoints import FrozenRun
    from embedkit.extraction.config import RunConfig

__all__ = ["MultiGpuRunner"]


@dataclass(frozen=True)
class MultiGpuRunner:
    """Runs a plan in several processes; ``Runner`` does so in threads.

    Each process does whole shards, which are cut from the plan alone; so the store is the same to
    the byte as that of one process on such a device.

    Attributes:
        run: What to embed, and where to; this process holds the working folder's lock.
        backbone: The backbone's name, by which each process loads it.
        loading: How it is loaded.
        choice: The engine and the devices; the precision is decided.
        settings: Threads of all processes together, and whether each decodes in processes.
        shards: The numbers of the shards to do.
    """

    run: FrozenRun
    backbone: str
    loading: LoadConfig
    choice: EngineChoice
    settings: RunConfig
    shards: Sequence[int]

    def go(self, stop: threading.Event | None) -> ExtractResult:
        """Embeds until the plan is done or ``stop`` is set; see ``Run.go``.

        Raises:
            WorkerError: A process failed; finished work is saved.
        """
        every = self.shards
        before = self._checkpoints(every)
        tasks = self._tasks([number for number in every if not before.is_finished(number)])
        begun = [self._checkpoints(task.shards) for task in tasks]
        latest = {place: (one.images_done, one.counts.failed) for place, one in enumerate(begun)}
        stage = Stage(
            EMBEDDING, before.total, unit="images",
            done=before.images_done, failed=before.counts.failed,
        )  # fmt: skip

        def tell(place: int, progress: dict[str, Any]) -> None:
            done, failed = latest[place]
            latest[place] = now = progress["done"], progress["failed"]
            stage.add(now[0] - done, failed=now[1] - failed)

        run_processes(tasks, stop, tell)
        seconds, after = stage.progress.seconds, self._checkpoints(every)
        return ExtractResult.of_checkpoints(self.run.partial.output, before, after, seconds)

    def _checkpoints(self, shards: Sequence[int]) -> Checkpoints:
        return Checkpoints(self.run, shards)

    def _tasks(self, missing: Sequence[int]) -> list[WorkerTask]:
        """One for each device, as long as there are shards; the cores are dealt out too."""
        devices = self.choice.devices[: len(missing)]
        count, workers = len(devices), self.settings.workers
        return [
            WorkerTask(
                self.run.partial.output.absolute(),
                tuple(missing[place::count]),
                self.backbone,
                self.loading,
                replace(self.choice, devices=(device,)),
                _cores(place, count),
                None if workers is None else max(1, workers // count),
                self.settings.processes,
                self.settings.max_read_errors,
                self.settings.image_timeout,
                url_for_workers(self.run.partial),
            )
            for place, device in enumerate(devices)
        ]


def _cores(place: int, count: int) -> tuple[int, ...]:
    """The task of this process's cores that one of ``count`` processes gets."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[place * len(cores) // count : (place + 1) * len(cores) // count]
    return tuple(mine or cores)
