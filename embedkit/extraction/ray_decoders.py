"""Reads and decodes on cores of a Ray cluster that are kept apart from the workers that embed.

So machines without a GPU feed those that have one, and each kind grows alone. Any worker asks any
decoder, those of which it waits for least first. A decoder that dies is started again by Ray, and
what it did is done again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.resize import Scaler
from embedkit.distributed.worker import Worker, enter_shared
from embedkit.errors import WorkerError
from embedkit.extraction.decode_workers import DecodeWorkers
from embedkit.extraction.job import loader_of
from embedkit.extraction.load_images import outcome_from_json, outcome_to_json
from embedkit.sources.shard_plan import record_from_json, record_to_json
from embedkit.store.format import StoreMeta
from embedkit.utils.parallel import check_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.extraction.load_images import Outcome
    from embedkit.types import ImageRecord

__all__ = ["RayDecoder", "RayDecoders", "start_decoders"]

_CHUNK = 32  # images per call
_CALLS_AHEAD = 2  # per decoder: one that it does, and one that waits there
_AT_ENGINE = 3  # batches that are on their way to a GPU, computed, or on their way back
_POLL_SECONDS = 0.25
_TIMES_AGAIN = 3  # a call whose decoder dies
_log = logging.getLogger("embedkit")


class RayDecoder:
    """The work of one decoder: one core, and a process of its own that an image may end.

    Args:
        settings: ``folder``, the driver's current folder; ``needed``, what this machine must see;
            ``meta``, from ``StoreMeta.to_config``; ``timeout``, seconds for an image; ``images``,
            how many it will about decode.

    Raises:
        WorkerError: This machine doesn't see the driver's folders, or can't start a process.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        enter_shared(Path(settings["folder"]), *map(Path, settings["needed"]))
        meta = StoreMeta.from_config(settings["meta"])
        load = loader_of(meta, Scaler(), settings["timeout"])
        side = load.preprocessing.crop
        self._shape = side, side, 3
        self._process = DecodeWorkers(load, 1, _CHUNK, 1, images=settings["images"])

    def do(self, task: dict[str, Any], _: threading.Event) -> tuple[NDArray[np.uint8], list[Any]]:
        """Loads the images of ``records``.

        Returns:
            ``(n, S, S, 3) uint8`` pixels, and each one's outcome as `outcome_to_json` gives it.
        """
        records = [record_from_json(one) for one in task["records"]]
        pixels = np.zeros((len(records), *self._shape), np.uint8)
        outcomes = self._process.load(records, pixels)
        return pixels, [outcome_to_json(one) for one in outcomes]


@contextmanager
def start_decoders(ray: Any, count: int, settings: dict[str, Any]) -> Iterator[list[Any]]:
    """Decoders on a cluster, one core each; they end with the block.

    Args:
        ray: The module, connected.
        count: How many; those that find no room yet start when there is some.
        settings: As ``RayDecoder``'s.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < count:
        _log.warning("the Ray cluster has %d CPU cores now, of %d that are to decode", cores, count)
    decoder = ray.remote(Worker).options(
        num_cpus=1, max_restarts=-1, max_task_retries=_TIMES_AGAIN, scheduling_strategy="SPREAD"
    )
    shared = ray.put(settings)
    work = f"{RayDecoder.__module__}:{RayDecoder.__name__}"
    actors = [decoder.remote(work, shared) for _ in range(count)]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


class RayDecoders:
    """What a worker asks for decoded images; several threads may do so at the same time.

    Args:
        actors: The decoders, which other workers ask, too.
        workers: How many workers there are.
        batch_size: Images per batch, at most.

    Attributes:
        callers: Threads that keep this worker's share of the decoders busy.
    """

    def __init__(self, actors: Sequence[Any], workers: int, batch_size: int) -> None:
        import ray

        self._ray = ray
        ahead = -(-_CALLS_AHEAD * len(actors) * _CHUNK // (workers * batch_size))
        self.callers = max(ahead, 2) + _AT_ENGINE
        self._starting = {actor.ready.remote(): actor for actor in actors}
        self._running: list[Any] = []
        self._waits_for: Counter[Any] = Counter()
        self._lock = threading.Lock()

    def load(self, records: Sequence[ImageRecord], pixels: NDArray[np.uint8]) -> list[Outcome]:
        """As `load_images`.

        Raises:
            WorkerError: A decoder can't do its work, or died of it again and again.
            concurrent.futures.CancelledError: The work of the calling thread was cancelled.
        """
        starts = range(0, len(records), _CHUNK)
        calls = [self._call(records[start : start + _CHUNK]) for start in starts]
        outcomes: list[Outcome] = []
        for start, (actor, call) in zip(starts, calls, strict=True):
            found, encoded = self._answer(actor, call)
            pixels[start : start + len(found)] = found
            outcomes += [
                outcome_from_json(record.id, one)
                for record, one in zip(records[start : start + len(found)], encoded, strict=True)
            ]
        return outcomes

    def _call(self, records: Sequence[ImageRecord]) -> tuple[Any, Any]:
        """The decoder that was asked, and its answer to come."""
        self._wait_for_one()
        with self._lock:
            actor = min(self._running, key=self._waits_for.__getitem__)
            self._waits_for[actor] += 1
        task = {"records": [record_to_json(record) for record in records]}
        return actor, actor.do.options(name="decode").remote(task)

    def _wait_for_one(self) -> None:
        """Returns once a decoder runs; notes which others do by then."""
        while self._starting:
            with self._lock:
                starting = [*self._starting]
                seconds = 0.0 if self._running else _POLL_SECONDS
                ready = self._ray.wait(starting, num_returns=len(starting), timeout=seconds)[0]
                self._running += [self._starting.pop(one) for one in ready]
                if self._running:
                    return
            check_cancelled()

    def _answer(self, actor: Any, call: Any) -> tuple[NDArray[np.uint8], list[Any]]:
        try:
            while not self._ray.wait([call], timeout=_POLL_SECONDS)[0]:
                check_cancelled()
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as exc:
            reason = " ".join(str(exc).split())
            raise WorkerError(f"decoders of the cluster died again and again: {reason}") from exc
        finally:
            with self._lock:
                self._waits_for[actor] -= 1
        if "error" in answer:
            raise WorkerError(answer["error"])
        found, encoded = answer["result"]
        return found, encoded
