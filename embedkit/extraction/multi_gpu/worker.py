"""Worker process of a multi-GPU run; run as a module, reads its task as JSON from stdin."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from embedkit.errors import EmbedkitError
from embedkit.extraction.multi_gpu.shard_worker import ShardWorker
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.store.working_dir import PartialStore
from embedkit.utils.progress import reporting
from embedkit.utils.watchdog import ended_when_stuck

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

__all__ = ["work"]


def work(task: WorkerTask, stop: threading.Event, tell: Callable[[dict[str, Any]], None]) -> None:
    """Does a task of a run whose plan and meta are frozen, under the parent's lock.

    Args:
        task: What to do.
        stop: When set, what is done is committed and the work ends.
        tell: Called with each message to the parent.

    Raises:
        EmbedkitError: As ``ShardWorker`` does.
    """
    with (
        ShardWorker(task) as worker,
        reporting(lambda progress: tell({"progress": asdict(progress)})),
    ):
        worker.embed(task.shards, task.processes, stop)


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent asks for an orderly end
    logging.getLogger("embedkit").setLevel(logging.ERROR)  # the parent has logged all this
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps other output out of the message stream
    commands = os.fdopen(os.dup(0), "rb", buffering=0)  # a buffer's lock could be held at the end
    task = WorkerTask.from_config(json.loads(commands.readline()))
    if task.cores:
        os.sched_setaffinity(0, task.cores)
    stop = threading.Event()
    threading.Thread(target=_obey, args=(commands, stop), daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    error = None
    mark = PartialStore(task.output).isolate_mark
    try:
        with ended_when_stuck(task.image_timeout, mark):
            work(task, stop, tell)
    except (EmbedkitError, ValueError, OSError) as exc:
        error = " ".join(str(exc).split())
    tell({"error": error})


def _obey(commands: FileIO, stop: threading.Event) -> None:
    """Stops orderly on request, and at once when the parent has exited."""
    while commands.readline():
        stop.set()
    os._exit(1)


if __name__ == "__main__":
    _main()
