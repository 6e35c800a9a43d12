"""Does shards of a run whose plan and settings are frozen, with an engine that stays open."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Self

from embedkit.backbones import load_configured
from embedkit.decode.resize import Scaler
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.extraction.checkpoints import FrozenRun
from embedkit.extraction.decode_workers import open_decode_workers
from embedkit.extraction.job import loader_of
from embedkit.extraction.precision import engine_differences, open_precise
from embedkit.extraction.runner import Runner
from embedkit.sources.shard_plan import Plan
from embedkit.store.object_store import ObjectFolder
from embedkit.store.working_dir import PartialStore

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from embedkit.engines import Engine
    from embedkit.extraction.decode_workers import DecodeWorkers
    from embedkit.extraction.load_images import Decoders
    from embedkit.extraction.multi_gpu.task import WorkerTask
    from embedkit.extraction.runner import ExtractResult

__all__ = ["ShardWorker"]


class ShardWorker:
    """Embeds shards under the lock of the process that froze the run; a context manager.

    Args:
        task: What is to be done, and how.

    Raises:
        StoreMismatchError: The weights as they are now would give other rows.
        StoreError: The run's folder isn't there.
        EmbedkitError: As ``extract`` does.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._task, self._stack = task, ExitStack()
        partial = _working_folder(task)
        frozen, plan = partial.frozen_meta(), Plan.open(partial.folder)
        if frozen is None or plan is None:
            raise StoreError(f"{partial.folder}: no run was begun there")
        meta = frozen[0]
        self._backbone = load_configured(task.backbone, task.loading)
        self._run = FrozenRun(partial, plan, meta, self._backbone.head)
        scaler = self._stack.enter_context(Scaler(plan.count))
        self._load = loader_of(meta, scaler, task.image_timeout)
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def embed(
        self,
        shards: Sequence[int],
        processes: bool | None,
        stop: threading.Event,
        decoders: Decoders | None = None,
    ) -> ExtractResult:
        """Embeds shards.

        Args:
            shards: Their numbers.
            processes: Whether processes decode; None where that pays.
            stop: When set, what is done is committed and the work ends.
            decoders: What decodes elsewhere; None: this process or its own ones.

        Raises:
            StoreMismatchError: This device would give other rows.
            EmbedkitError: As ``extract`` does.
        """
        task, run = self._task, self._run
        own = None if decoders else self._own_decoders(shards, processes)
        with own or nullcontext():  # they start while the engine is opened
            runner = Runner(
                run, self._load, self._opened(), task.workers, shards, decoders or own,
                task.max_read_errors,
            )  # fmt: skip
            return runner.go(stop)

    def _own_decoders(self, shards: Sequence[int], processes: bool | None) -> DecodeWorkers | None:
        task, run = self._task, self._run
        return open_decode_workers(
            self._load,
            task.choice,
            sum(run.plan.rows(number) for number in shards),
            workers=task.workers,
            processes=processes,
            isolate=run.partial.isolate_mark.exists(),
        )

    def _opened(self) -> Engine:
        if self._engine is None:
            run = self._run
            engine, described = open_precise(
                self._backbone, self._task.choice, run.plan, self._load, run.meta.engine
            )
            self._engine = self._stack.enter_context(engine)
            differences = engine_differences(run.meta.engine, described)
            fingerprints = run.meta.weights_fingerprint, self._backbone.fingerprint
            if fingerprints[0] != fingerprints[1]:
                differences["weights"] = fingerprints
            if differences:
                raise StoreMismatchError(str(run.partial.folder), differences)
        return self._engine


def _working_folder(task: WorkerTask) -> PartialStore:
    if not task.url:
        return PartialStore(task.output)
    partial = ObjectFolder(task.output, task.url)
    partial.join()
    return partial
