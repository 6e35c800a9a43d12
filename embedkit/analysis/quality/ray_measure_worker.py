"""What a Ray worker does to measure images: reads and decodes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.analysis.quality.measures import BATCH, loaded_facts, loader_of_store
from embedkit.distributed.shared_stores import reopened_by_worker
from embedkit.distributed.worker import reserved_cores
from embedkit.extraction.load_images import outcome_to_json
from embedkit.sources.shard_plan import record_from_json

if TYPE_CHECKING:
    import threading

__all__ = ["MeasureWorker"]


class MeasureWorker:
    """The work of one Ray worker, with the store open.

    Args:
        settings: ``folder``, the driver's current folder; ``stores``, the path and the fingerprint
            of the one store.

    Raises:
        WorkerError: This machine doesn't see the driver's folder.
        StoreError: It doesn't see the store, or sees another one.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        stores = reopened_by_worker(settings["stores"], Path(settings["folder"]))
        self._load = loader_of_store(stores[0])

    def do(self, task: dict[str, Any], _: threading.Event) -> list[Any]:
        """The outcome of each of ``records``, as `outcome_to_json` gives it."""
        records = [record_from_json(one) for one in task["records"]]
        batches = (records[start : start + BATCH] for start in range(0, len(records), BATCH))
        return [
            outcome_to_json(one)
            for outcomes in loaded_facts(self._load, batches, reserved_cores())
            for one in outcomes
        ]
