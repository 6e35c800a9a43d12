"""Runs a frozen plan on the workers of a Ray cluster, a shard at a time."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.distributed.cluster import connected
from embedkit.distributed.pool import Pool, Task
from embedkit.errors import StoreError
from embedkit.extraction.checkpoints import Checkpoints
from embedkit.extraction.multi_gpu.shard_worker import ShardWorker
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.extraction.runner import EMBEDDING, ExtractResult
from embedkit.store.format import StoreCounts
from embedkit.store.object_store import url_for_workers
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from embedkit.backbones.config import LoadConfig
    from embedkit.engines import EngineChoice
    from embedkit.extraction.checkpoints import FrozenRun
    from embedkit.extraction.config import RunConfig

__all__ = ["RayRunner", "RayShards"]

_log = logging.getLogger("embedkit")


class RayShards:
    """The work of one Ray worker: embeds shards with an engine that stays open.

    Args:
        settings: ``folder``, the driver's current folder, which relative paths start from, and
            ``task``, from ``WorkerTask.to_config``.

    Raises:
        StoreError: This machine doesn't see the driver's folders.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        logging.getLogger("embedkit").setLevel(logging.ERROR)  # the driver has logged all this
        task = WorkerTask.from_config(settings["task"])
        needed = [] if task.url else [settings["folder"], task.output.parent]
        if unseen := [str(folder) for folder in needed if not Path(folder).is_dir()]:
            raise StoreError(
                f"{socket.gethostname()}: doesn't see {' or '.join(unseen)}; all machines of the "
                "cluster must share these folders"
            )
        if Path(settings["folder"]).is_dir():  # else no relative path is needed
            os.chdir(settings["folder"])
        self._worker = ShardWorker(task)

    def do(self, task: dict[str, Any], stop: threading.Event) -> list[int]:
        """Embeds one shard; returns how many of its images are done, and how many failed."""
        result = self._worker.embed([task["shard"]], task["processes"], stop)
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
            with connected(str(self.settings.ray)) as ray:
                self._pool(ray).run(tasks, stop, tell)
        seconds, after = stage.progress.seconds, Checkpoints(self.run, self.shards)
        return ExtractResult.of_checkpoints(self.run.partial.output, before, after, seconds)

    def _pool(self, ray: Any) -> Pool:
        settings, nodes = self.settings, [node for node in ray.nodes() if node["Alive"]]
        gpus = sum(map(_gpus, nodes)) if settings.num_gpus else 0
        if gpus < settings.num_gpus:
            _log.warning("the Ray cluster has %g GPUs now; waiting for %g", gpus, settings.num_gpus)
        usual = int(gpus / settings.num_gpus) if settings.num_gpus else len(nodes)
        workers = settings.workers or max(1, usual)
        cores = [node["Resources"].get("CPU", 0.0) for node in nodes]
        if gpus:
            cores = [cpus for cpus, node in zip(cores, nodes, strict=True) if _gpus(node)] or cores
        num_cpus = _cores_per_worker(cores, workers)
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
        about = {"folder": str(Path.cwd()), "task": task.to_config()}
        return Pool(ray, work, about, workers, num_cpus, settings.num_gpus)


def _gpus(node: dict[str, Any]) -> float:
    return float(node["Resources"].get("GPU", 0))


def _cores_per_worker(cores: Sequence[float], workers: int) -> float:
    """The most cores per worker with which all workers fit on machines of so many cores.

    It is a whole number or, with more workers than cores, 1 / n, as Ray wants it.
    """
    for count in range(int(max(cores)), 0, -1):
        if sum(int(one // count) for one in cores) >= workers:
            return count
    return 1 / -(-workers // max(1, int(sum(cores))))
