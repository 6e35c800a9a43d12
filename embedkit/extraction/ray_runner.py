"""Runs a frozen plan on the workers of a Ray cluster, a shard at a time."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.distributed.cluster import connected
from embedkit.distributed.helpers import started_helpers
from embedkit.distributed.pool import Pool, Task
from embedkit.distributed.worker import enter_shared
from embedkit.distributed.worker_size import worker_size
from embedkit.extraction.checkpoints import Checkpoints
from embedkit.extraction.multi_gpu.shard_worker import ShardWorker
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.extraction.ray_decoders import RayDecoder, RayDecoders
from embedkit.extraction.runner import EMBEDDING, ExtractResult
from embedkit.store.format import StoreCounts
from embedkit.store.object_store import url_for_workers
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from embedkit.backbones.config import LoadConfig
    from embedkit.engines import EngineChoice
    from embedkit.extraction.checkpoints import FrozenRun
    from embedkit.extraction.config import RunConfig

__all__ = ["RayRunner", "RayShards"]

_DECODER = f"{RayDecoder.__module__}:{RayDecoder.__name__}"
_log = logging.getLogger("embedkit")


class RayShards:
    """The work of one Ray worker: embeds shards with an engine that stays open.

    Args:
        settings: ``folder``, the driver's current folder, which relative paths start from;
            ``needed``, what this machine must see; ``task``, from ``WorkerTask.to_config``;
            ``decoders``, actors that decode for all ``workers``; none if each decodes itself.

    Raises:
        WorkerError: This machine doesn't see the driver's folders.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        task = WorkerTask.from_config(settings["task"])
        enter_shared(Path(settings["folder"]), *map(Path, settings["needed"]))
        self._worker = ShardWorker(task)
        actors, workers = settings["decoders"], settings["workers"]
        self._decoders = RayDecoders(actors, workers, task.choice.batch_size) if actors else None

    def do(self, task: dict[str, Any], stop: threading.Event) -> list[int]:
        """Embeds one shard; returns how many of its images are done, and how many failed."""
        decoders = None if task["processes"] else self._decoders
        result = self._worker.embed([task["shard"]], task["processes"], stop, decoders)
        return [result.found, result.failed]


@dataclass(frozen=True)
class RayRunner:
    """Runs a plan on Ray; the store is the same to the byte as that of one process.

    Attributes:
        run: What to embed, and where to; this process holds the working folder's lock.
        backbone: The backbone's name, by which each worker loads it.
        loading: How it is loaded.
        choice: The engine; the precision is decided.
        settings: The cluster, and the number of workers.
        shards: The numbers of the shards to do.
    """

    run: FrozenRun
    backbone: str
    loading: LoadConfig
    choice: EngineChoice
    settings: RunConfig
    shards: Sequence[int]

    def go(self, stop: threading.Event | None) -> ExtractResult:
        """Embeds until the plan is done or ``stop`` is set.

        Raises:
            WorkerError: A worker failed; finished work is saved.
        """
        before = Checkpoints(self.run, self.shards)
        stage = Stage(
            EMBEDDING, before.total, unit="images",
            done=before.images_done, failed=before.counts.failed,
        )  # fmt: skip
        missing = [number for number in self.shards if not before.is_finished(number)]
        begun = {
            number: Checkpoints(self.run, [number]).counts
            for number in missing
            if before.done(number)
        }
        tasks = [
            Task(
                f"embed shard {number}",
                {"shard": number, "processes": self.settings.processes},
                careful={"processes": True},
            )
            for number in missing
        ]

        def tell(task: Task, result: list[int]) -> None:
            found, failed = result
            saved = begun.get(task.values["shard"], StoreCounts(0, 0, 0))
            if task.deaths:
                _log.warning("%s: done after %d attempts", task.name, task.attempts)
            stage.add(found - saved.found, failed=failed - saved.failed)

        if tasks:
            with connected(str(self.settings.ray)) as ray, self._decoders(ray) as decoders:
                self._pool(ray, decoders).run(tasks, stop, tell)
        seconds, after = stage.progress.seconds, Checkpoints(self.run, self.shards)
        return ExtractResult.of_checkpoints(self.run.partial.output, before, after, seconds)

    def _decoders(self, ray: Any) -> AbstractContextManager[list[Any]]:
        count = self.settings.decode_cpus
        if not count:
            return nullcontext([])
        settings = {
            **self._shared_folders(),
            "meta": self.run.meta.to_config(),
            "timeout": self.settings.image_timeout,
            "images": self.run.plan.count // count,
        }
        return started_helpers(ray, count, _DECODER, settings)

    def _shared_folders(self) -> dict[str, Any]:
        """The current folder, and the folders that all machines must see."""
        folder, output = Path.cwd(), self.run.partial.output.absolute()
        needed = [] if url_for_workers(self.run.partial) else [str(folder), str(output.parent)]
        return {"folder": str(folder), "needed": needed}

    def _pool(self, ray: Any, decoders: list[Any]) -> Pool:
        settings = self.settings
        workers, num_cpus = worker_size(ray, settings.workers, settings.num_gpus)
        device = "cuda:0" if settings.num_gpus else self.choice.devices[0]
        task = WorkerTask(
            self.run.partial.output.absolute(),
            (),
            self.backbone,
            self.loading,
            replace(self.choice, devices=(device,)),
            (),
            max(1, int(num_cpus)),
            settings.processes,
            settings.max_read_errors,
            settings.image_timeout,
            url_for_workers(self.run.partial),
        )
        work = f"{RayShards.__module__}:{RayShards.__name__}"
        about = {
            **self._shared_folders(),
            "task": task.to_config(),
            "decoders": decoders,
            "workers": workers,
        }
        # Decoders take the cores that they find first: a worker that needs some might never start.
        return Pool(ray, work, about, workers, 0 if decoders else num_cpus, settings.num_gpus)
