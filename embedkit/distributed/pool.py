"""Workers on a Ray cluster, and the tasks that they do; a worker that dies is replaced."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from embedkit.distributed.cluster import connected
from embedkit.distributed.worker import Worker
from embedkit.distributed.worker_size import worker_size
from embedkit.errors import WorkerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from embedkit.distributed.cluster import RayCluster

__all__ = ["Pool", "Task", "opened_pool", "run_tasks"]

_POLL_SECONDS = 0.2
_log = logging.getLogger("embedkit")
_DEATHS = 3  # of the workers of a task, before the task is done with care or the run ends


@dataclass(slots=True)
class Task:
    """One task.

    Attributes:
        name: What Ray's dashboard shows, ``embed shard 12``.
        values: What the worker gets; plain values.
        careful: What it gets besides, once three workers have died of it; None if nothing helps.
        more: Gives more values when it begins, such as arrays that would take much memory by then.
        deaths: Workers that died while they did it.
        attempts: How many times it was begun.
    """

    name: str
    values: dict[str, Any]
    careful: dict[str, Any] | None = None
    more: Callable[[], dict[str, Any]] | None = None
    deaths: int = 0
    attempts: int = 0


@dataclass(frozen=True)
class Pool:
    """Workers of one kind; they live as long as the pool, and its runs use them again.

    Attributes:
        ray: The module, connected.
        work: ``package.module:Class``; see ``Worker``.
        settings: What the class is called with.
        workers: How many, at most.
        num_cpus: CPU cores that Ray reserves for each.
        num_gpus: GPUs that Ray reserves for each; may be a fraction.
    """

    ray: Any
    work: str
    settings: dict[str, Any]
    workers: int
    num_cpus: float
    num_gpus: float
    _running: dict[Any, tuple[Any, Task | None]] = field(
        default_factory=dict, init=False, repr=False
    )
    _idle: list[Any] = field(default_factory=list, init=False, repr=False)
    _starting: Task = field(default_factory=lambda: Task("start a worker", {}), init=False)

    def run(
        self,
        tasks: Iterable[Task],
        stop: threading.Event | None,
        on_result: Callable[[Task, Any], None],
    ) -> None:
        """Does all tasks.

        Args:
            tasks: The tasks.
            stop: When set, the running ones end in good order and no other begins.
            on_result: Called with each task that is done, and what the worker returned.

        Raises:
            WorkerError: A task failed, or its workers die of it even when it is done with care.
        """
        waiting = deque(tasks)
        error: WorkerError | None = None
        stopping = False
        while waiting and self._idle:
            self._begin(self._idle.pop(), waiting.popleft())
        for _ in range(min(self.workers - len(self._running), len(waiting))):
            self._start()
        while (waiting and not stopping) or any(task for _, task in self._running.values()):
            if not stopping and (error or (stop is not None and stop.is_set())):
                stopping = True
                self._stop()
                continue  # no task may be running
            for done in self.ray.wait([*self._running], timeout=_POLL_SECONDS)[0]:
                actor, task = self._running.pop(done)
                try:
                    lives = self._ended(done, task, on_result)
                except WorkerError as exc:
                    error = error or exc
                    continue
                if not lives and task is not None:
                    waiting.appendleft(task)
                is_over = stopping or error is not None
                self._go_on(actor if lives else None, deque() if is_over else waiting)
        if error is not None:
            raise error

    def _go_on(self, actor: Any, waiting: deque[Task]) -> None:
        """Gives a worker the next task, if there is one; starts another for None, which died."""
        if actor is None and waiting:
            self._start()
        elif waiting:
            self._begin(actor, waiting.popleft())
        elif actor is not None:
            self._idle.append(actor)

    @cached_property
    def _shared(self) -> Any:
        """The settings, sent once."""
        return self.ray.put(self.settings)

    def _start(self) -> None:
        """Starts a worker; it gets its first task when it runs."""
        worker = self.ray.remote(Worker).options(
            num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_concurrency=2, max_restarts=0
        )
        actor = worker.remote(self.work, self._shared)
        self._running[actor.ready.remote()] = actor, None

    def _begin(self, actor: Any, task: Task) -> None:
        task.attempts += 1
        values = {**task.values, **(task.more() if task.more else {})}
        if task.deaths >= _DEATHS:
            values = {**values, **(task.careful or {})}
        self._running[actor.do.options(name=task.name).remote(values)] = actor, task

    def _stop(self) -> None:
        for actor, task in self._running.values():
            if task is not None:
                actor.stop.remote()

    def _ended(self, done: Any, task: Task | None, on_result: Callable[[Task, Any], None]) -> bool:
        """Passes a result on; False if the worker died, and its task is to be done again."""
        task = task or self._starting
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(done)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError) as exc:
            task.deaths += 1
            if task.deaths >= (_DEATHS if task.careful is None else 2 * _DEATHS):
                raise WorkerError(
                    f"{task.name}: {task.deaths} workers died of it ({_line(exc)}); finished work "
                    "is kept: run the same command again to resume"
                ) from exc
            _log.warning("%s: its worker died and is replaced: %s", task.name, _line(exc))
            return False
        except errors.RayTaskError as exc:
            raise WorkerError(f"{task.name}: failed in its worker: {_line(exc.cause)}") from exc
        if task is self._starting:
            task.deaths = 0
            return True
        if "error" in answer:
            raise WorkerError(f"{task.name}: {answer['error']}")
        on_result(task, answer["result"])
        return True


def run_tasks(
    cluster: RayCluster,
    work: str,
    settings: dict[str, Any],
    tasks: Sequence[Task],
    on_result: Callable[[Task, Any], None],
) -> None:
    """Does tasks on the cores of a cluster; see ``Pool``.

    Args:
        cluster: The cluster.
        work: ``package.module:Class``.
        settings: What the class is called with.
        tasks: The tasks.
        on_result: Called with each task that is done, and what the worker returned.

    Raises:
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no cluster, a task failed, or its workers died of it.
    """
    if not tasks:
        return
    with opened_pool(cluster, work, settings) as pool:
        pool.run(tasks, None, on_result)


@contextmanager
def opened_pool(cluster: RayCluster, work: str, settings: dict[str, Any]) -> Iterator[Pool]:
    """Workers on the cores of a cluster, for several runs; see ``run_tasks``."""
    with connected(cluster.address) as ray:
        workers, num_cpus = worker_size(ray, cluster.workers)
        yield Pool(ray, work, settings, workers, num_cpus, 0)


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300]
