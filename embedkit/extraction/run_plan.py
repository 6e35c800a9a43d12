"""Embeds a plan: opens the decoders and the engine, freezes the settings, runs on all devices."""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedkit.decode.resize import Scaler
from embedkit.errors import StoreMismatchError
from embedkit.extraction.checkpoints import FrozenRun
from embedkit.extraction.decode_workers import open_decode_workers
from embedkit.extraction.job import loader_of
from embedkit.extraction.multi_gpu import MultiGpuRunner
from embedkit.extraction.precision import engine_differences, open_precise
from embedkit.extraction.ray_runner import RayRunner
from embedkit.extraction.runner import ExtractResult, Runner
from embedkit.utils.timing import timed
from embedkit.utils.urls import display_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from embedkit.engines import EngineChoice
    from embedkit.extraction.config import RunConfig
    from embedkit.extraction.job import Job
    from embedkit.sources.part import Part
    from embedkit.sources.shard_plan import Plan
    from embedkit.store.format import StoreMeta
    from embedkit.store.working_dir import PartialStore

__all__ = ["Extraction", "one_device"]

_OF_MACHINE = ("engine", "roots", "embedkit_version")  # those of another one that begins a run
_log = logging.getLogger("embedkit")


@dataclass(frozen=True, slots=True)
class Extraction:
    """A planned extraction.

    Attributes:
        partial: The working folder.
        job: Backbone, settings and metadata.
        plan: The images.
        choice: Engine and devices.
        settings: Threads and processes.
        engine: The engine's description in the store that the rows are made for by an update; None
            for a new store.
        updates: The fingerprint of that store.
        part: The part of the plan to do; None for all of it.
    """

    partial: PartialStore
    job: Job
    plan: Plan
    choice: EngineChoice
    settings: RunConfig
    engine: Mapping[str, Any] | None = None
    updates: str = ""
    part: Part | None = None

    @property
    def shards(self) -> range:
        """The numbers of the shards to do."""
        count = self.plan.num_shards
        return range(count) if self.part is None else self.part.shards(count)

    def embed(self, frozen: StoreMeta | None, stop: threading.Event | None) -> ExtractResult:
        """Embeds the remaining images of a new or resumed run (``frozen`` if resumed).

        Raises:
            StoreMismatchError: The engine is another one than that of the resumed run or of the
                store that is updated.
        """
        job, choice, settings = self.job, self.choice, self.settings
        if frozen is not None:
            self.partial.share()  # before the engine is opened, which takes its time
        backbone, one_device = job.backbone, len(choice.devices) == 1 and settings.ray is None
        with ExitStack() as stack:
            scale = stack.enter_context(Scaler(self.plan.count))
            load = loader_of(job.meta, scale, settings.image_timeout)
            decoders = None
            if one_device:  # they start while the engine is opened
                decoders = open_decode_workers(
                    load, choice, self.plan.count,
                    workers=settings.workers, processes=settings.processes,
                    isolate=self.partial.isolate_mark.exists(),
                )  # fmt: skip
                stack.enter_context(decoders or nullcontext())
            kept = self.engine if frozen is None else frozen.engine
            with timed("opened the engine"):
                engine, described = open_precise(backbone, choice, self.plan, load, kept)
            _log.debug(
                "engine %s on %s, precision %s, batches of %d",
                engine.name, ", ".join(choice.devices), engine.precision, engine.batch_size,
            )  # fmt: skip
            stack.enter_context(engine)
            if kept is not None and (differences := engine_differences(kept, described)):
                raise StoreMismatchError(display_name(job.output), differences)
            meta = frozen or self._freeze(described)
            self.partial.share()
            head = None if self.updates else backbone.head  # the updated store has it
            run = FrozenRun(self.partial, self.plan, meta, head)
            if one_device:
                return Runner(
                    run, load, engine, settings.workers, self.shards,
                    decoders=decoders, max_read_errors=settings.max_read_errors,
                ).go(stop)  # fmt: skip
        choice = replace(choice, precision=meta.engine["precision"])
        loading = job.config.loading
        if settings.ray is not None:
            name = backbone.spec.name
            return RayRunner(run, name, loading, choice, settings, self.shards).go(stop)
        runner = MultiGpuRunner(run, backbone.spec.name, loading, choice, settings, self.shards)
        return runner.go(stop)

    def _freeze(self, engine: Mapping[str, Any]) -> StoreMeta:
        """Saves the metadata of a new run."""
        job = self.job
        meta = replace(job.meta, engine=engine, plan_hash=self.plan.digest)
        if meta.part:
            of_plan = {"images": self.plan.count, "shard_rows": self.plan.shard_rows}
            meta = replace(meta, part={**meta.part, **of_plan})
        parts = 1 if self.part is None else self.part.of
        frozen = self.partial.freeze_meta(meta, job.config.listed_by, self.updates, parts)
        differences = frozen.differences(meta, ignore=_OF_MACHINE)
        differences |= engine_differences(frozen.engine, engine)
        if differences:
            raise StoreMismatchError(display_name(job.output), differences)
        return frozen


def one_device(choice: EngineChoice, device: str) -> EngineChoice:
    """The choice for a loaded backbone or dataset, which stays in this process.

    Raises:
        ValueError: Several devices were named.
    """
    if len(choice.devices) > 1 and device != "auto":
        raise ValueError(
            "on several devices a backbone must be given by its name, and images as files"
        )
    return replace(choice, devices=choice.devices[:1])
