"""Helpers on a Ray cluster, one core each, that all workers of a run may ask at any time.

A worker asks the helper that has least to do for it. A helper that dies is started again by Ray,
and what it did is done again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from embedkit.distributed.worker import Worker
from embedkit.errors import WorkerError
from embedkit.utils.parallel import check_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Helpers", "started_helpers"]

_POLL_SECONDS = 0.25
_TIMES_AGAIN = 3  # a task whose helper dies
_log = logging.getLogger("embedkit")


@contextmanager
def started_helpers(
    ray: Any, count: int, work: str, settings: dict[str, Any]
) -> Iterator[list[Any]]:
    """The actors of helpers, which end with the block.

    Args:
        ray: The module, connected.
        count: How many; those that find no room yet start when there is some.
        work: ``package.module:Class``; see ``Worker``.
        settings: What the class is called with.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < count:
        _log.warning("the Ray cluster has %d CPU cores now; waiting for %d", cores, count)
    helper = ray.remote(Worker).options(
        num_cpus=1, max_restarts=-1, max_task_retries=_TIMES_AGAIN, scheduling_strategy="SPREAD"
    )
    shared = ray.put(settings)
    actors = [helper.remote(work, shared) for _ in range(count)]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


class Helpers:
    """Asks helpers from a worker's process; several threads may do so at the same time.

    Args:
        actors: Of the helpers, at least one.
        name: What Ray's dashboard shows.
    """

    def __init__(self, actors: Sequence[Any], name: str) -> None:
        import ray

        self._ray, self._name = ray, name
        self._starting = {actor.ready.remote(): actor for actor in actors}
        self._running: list[Any] = []
        self._waits_for: Counter[Any] = Counter()
        self._lock = threading.Lock()

    def ask(self, task: dict[str, Any]) -> tuple[Any, Any]:
        """Hands out a task, once a helper runs; returns what ``answer`` takes.

        Raises:
            concurrent.futures.CancelledError: The work of the calling thread was cancelled.
        """
        self._wait_for_one()
        with self._lock:
            actor = min(self._running, key=self._waits_for.__getitem__)
            self._waits_for[actor] += 1
        return actor, actor.do.options(name=self._name).remote(task)

    def answer(self, asked: tuple[Any, Any]) -> Any:
        """The result of a task.

        Raises:
            WorkerError: The helper can't do its work, or helpers died of it again and again.
            concurrent.futures.CancelledError: The work of the calling thread was cancelled.
        """
        actor, call = asked
        try:
            while not self._ray.wait([call], timeout=_POLL_SECONDS)[0]:
                check_cancelled()
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as exc:
            reason = " ".join(str(exc).split())
            raise WorkerError(
                f"{self._name}: died again and again on the cluster: {reason}"
            ) from exc
        finally:
            with self._lock:
                self._waits_for[actor] -= 1
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["result"]

    def _wait_for_one(self) -> None:
        """Returns once a helper runs; notes which others do by then."""
        while True:
            with self._lock:
                if starting := [*self._starting]:
                    seconds = 0.0 if self._running else _POLL_SECONDS
                    ready = self._ray.wait(starting, num_returns=len(starting), timeout=seconds)[0]
                    self._running += [self._starting.pop(one) for one in ready]
                if self._running:
                    return
            check_cancelled()
