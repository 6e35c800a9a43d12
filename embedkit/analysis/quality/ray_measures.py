"""Measures the images of a store on the workers of a Ray cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.analysis.quality.measures import BATCH
from embedkit.distributed.pool import Task, run_tasks
from embedkit.distributed.shared_stores import named
from embedkit.extraction.load_images import outcome_from_json
from embedkit.sources.shard_plan import record_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedkit.distributed.cluster import RayCluster
    from embedkit.extraction.load_images import Outcome
    from embedkit.extraction.source_images import OriginalImages
    from embedkit.store import EmbeddingStore

__all__ = ["measure_on_ray"]

_WORKER = "embedkit.analysis.quality.ray_measure_worker:MeasureWorker"
_TASK = 32 * BATCH  # images of a task: some seconds of one core


def measure_on_ray(
    cluster: RayCluster,
    store: EmbeddingStore,
    originals: OriginalImages,
    keep: Callable[[Sequence[str], Sequence[Outcome]], None],
) -> None:
    """Measures images.

    Args:
        cluster: The cluster; its machines must see the store and the images.
        store: The store.
        originals: Its images, where they lie now.
        keep: Called with the ids of each task, and what is found.

    Raises:
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no cluster, or a worker failed.
    """
    settings = {"folder": str(Path.cwd()), "stores": named([store])}
    ids = list(originals)
    parts = {start: ids[start : start + _TASK] for start in range(0, len(ids), _TASK)}

    def records(start: int) -> dict[str, Any]:
        return {"records": [record_to_json(originals.record(name)) for name in parts[start]]}

    def on_result(task: Task, found: list[Any]) -> None:
        mine = parts[task.values["start"]]
        keep(mine, [outcome_from_json(*one) for one in zip(mine, found, strict=True)])

    tasks = [
        Task(f"measure from image {start}", {"start": start}, more=partial(records, start))
        for start in parts
    ]
    run_tasks(cluster, _WORKER, settings, tasks, on_result)
