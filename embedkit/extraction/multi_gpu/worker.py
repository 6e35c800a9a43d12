"""Worker process of a multi-GPU run; run as a module, reads its task as JSON from stdin."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from embedkit.backbones import load_configured
from embedkit.decode.resize import Scaler
from embedkit.errors import EmbedkitError, StoreError, StoreMismatchError
from embedkit.extraction.checkpoints import FrozenRun
from embedkit.extraction.decode_workers import open_decode_workers
from embedkit.extraction.job import loader_of
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.extraction.precision import engine_differences, open_precise
from embedkit.extraction.runner import Runner
from embedkit.sources.shard_plan import Plan
from embedkit.store.working_dir import PartialStore
from embedkit.utils.progress import reporting

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
        StoreMismatchError: This device, or the weights as they are now, would give other rows.
        EmbedkitError: As ``extract`` does.
    """
    partial = PartialStore(task.output)
    frozen, plan = partial.frozen_meta(), Plan.open(partial.folder)
    if frozen is None or plan is None:
        raise StoreError(f"{partial.folder}: no run was begun there")
    meta = frozen[0]
    backbone = load_configured(task.backbone, task.loading)
    with ExitStack() as stack:
        scale = stack.enter_context(Scaler(plan.count))
        load = loader_of(meta, backbone, scale, task.image_timeout)
        decoders = open_decode_workers(
            load,
            task.choice,
            sum(plan.rows(number) for number in task.shards),
            workers=task.workers,
            processes=task.processes,
        )
        stack.enter_context(decoders or nullcontext())
        engine, described = open_precise(backbone, task.choice, plan, load, meta.engine)
        stack.enter_context(engine)
        differences = engine_differences(meta.engine, described)
        if backbone.fingerprint != meta.weights_fingerprint:
            differences["weights"] = (meta.weights_fingerprint, backbone.fingerprint)
        if differences:
            raise StoreMismatchError(str(partial.folder), differences)

        run = FrozenRun(partial, plan, meta, backbone.head)
        runner = Runner(
            run, load, engine, task.workers, task.shards, decoders, task.max_read_errors
        )
        with reporting(lambda progress: tell({"progress": asdict(progress)})):
            runner.go(stop)


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
    try:
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
