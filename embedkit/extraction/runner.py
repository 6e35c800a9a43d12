"""Runs a frozen plan in one process: embeds the batches, saves shards, reports progress."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from embedkit.engines import usable_cores
from embedkit.extraction.batch_processor import BatchProcessor, in_order
from embedkit.extraction.checkpoints import Checkpoints
from embedkit.extraction.lost_source import LostSource
from embedkit.sources import ImageReader
from embedkit.tabular import Tabular
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import Engine
    from embedkit.extraction.checkpoints import FrozenRun
    from embedkit.extraction.load_images import Decoders
    from embedkit.store.format import StoreCounts
    from embedkit.types import ImageRecord

__all__ = ["EMBEDDING", "ExtractResult", "Runner"]

_log = logging.getLogger("embedkit")

EMBEDDING = "embedding"
"""The stage of the progress that counts embedded images."""


@dataclass(frozen=True, slots=True, repr=False)
class ExtractResult(Tabular):
    """Result of an extraction. ``found = embedded + failed + skipped`` when it is complete.

    Attributes:
        path: The store; text if it is a URL.
        complete: False if the run was stopped before its end.
        found: Files that the source listed.
        embedded: Rows of the store.
        failed: Images that could not be embedded; the store names each with its reason.
        skipped: Files that aren't images.
        resumed: Images that an earlier run had already done.
        seconds: Duration of this run's loop, in seconds.
        images_per_second: This run's rate.
        unlabelled: Files without a label, where others have one.
        waits_for: Of a run of one part: the other parts, such as ``3/8``, that must end before the
            store is complete. The counts are those of the part.
    """

    path: Path | str
    complete: bool
    found: int
    embedded: int
    failed: int
    skipped: int
    resumed: int
    seconds: float = 0.0
    images_per_second: float = 0.0
    unlabelled: int = 0
    waits_for: tuple[str, ...] = ()

    def _summary(self) -> str:
        stopped = "" if self.complete else ", stopped before the end"
        return (
            f"{str(self.path)!r}, {self.found:,} found = {self.embedded:,} embedded + "
            f"{self.failed:,} failed + {self.skipped:,} skipped{stopped}"
        )

    def _columns(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        texts = {"path": str(self.path), "waits_for": ", ".join(self.waits_for)}
        return {name: [value] for name, value in (values | texts).items()}

    @classmethod
    def of(
        cls,
        path: Path,
        counts: StoreCounts,
        *,
        complete: bool,
        resumed: int,
        seconds: float = 0.0,
        images_per_second: float = 0.0,
    ) -> ExtractResult:
        """The result for these counts."""
        return cls(
            path,
            complete,
            counts.found,
            counts.embedded,
            counts.failed,
            counts.skipped,
            resumed,
            seconds,
            images_per_second,
        )

    @classmethod
    def of_checkpoints(
        cls, path: Path, before: Checkpoints, after: Checkpoints, seconds: float
    ) -> ExtractResult:
        """The result of a run of other processes, by what was done before and after it."""
        return cls.of(
            path,
            after.counts,
            complete=after.images_done == after.total,
            resumed=before.resumed,
            seconds=seconds,
            images_per_second=(after.images_done - before.resumed) / seconds,
        )


class _Task(NamedTuple):
    """One batch: the shard that it belongs to, and its images."""

    shard: int
    records: list[ImageRecord]


@dataclass(frozen=True, slots=True)
class Runner:
    """Embeds the remaining images of a run in this process, and saves periodically.

    Attributes:
        run: Plan, metadata and output.
        load: Decodes and scales.
        engine: Embeds.
        workers: Threads; None is one per core, and one per batch in flight on a GPU, so that all
            cores decode while some threads wait for the device.
        shards: The numbers of the shards to do; None for all of the plan.
        decoders: What reads and decodes elsewhere; None: the workers do.
        max_read_errors: Images in a row that can't be read before the run stops; 0 never stops.
    """

    run: FrozenRun
    load: ImageLoader
    engine: Engine
    workers: int | None
    shards: Sequence[int] | None = None
    decoders: Decoders | None = None
    max_read_errors: int = 32

    def go(self, stop: threading.Event | None) -> ExtractResult:
        """Embeds until the plan is done or ``stop`` is set.

        Whatever ends it, an error or Ctrl-C too, what was embedded is committed first.

        Raises:
            SourceError: The source has gone away.
        """
        shards = range(self.run.plan.num_shards) if self.shards is None else self.shards
        work = Checkpoints(self.run, shards)
        _log.debug("%d threads, %d images embedded before", self._num_threads(), work.resumed)
        stage = Stage(
            EMBEDDING, work.total, unit="images", done=work.images_done, failed=work.counts.failed
        )
        with ImageReader(max_bytes=self.load.policy.max_bytes) as reader:
            meta = self.run.meta
            process = BatchProcessor(
                reader, self.load, self.engine, meta.dtype, meta.normalized, self.decoders
            )
            results = in_order(
                lambda task: process(task.records), self._tasks(work), self._num_threads(), stop
            )
            lost = LostSource(self.max_read_errors)
            try:
                with suppress(CancelledError), closing(results):
                    for task, part in results:
                        for shard, done in lost.passed(task.shard, task.records, part):
                            work.add(shard, done)
                        stage.update(work.images_done, failed=work.counts.failed)
                        if stop is not None and stop.is_set():
                            break
                    else:
                        for shard, done in lost.rest():
                            work.add(shard, done)
                        stage.update(work.images_done, failed=work.counts.failed)
            finally:
                work.save()
        progress = stage.progress
        return ExtractResult.of(
            self.run.partial.output,
            work.counts,
            complete=progress.done == progress.total,
            resumed=work.resumed,
            seconds=progress.seconds,
            images_per_second=progress.rate,
        )

    def _num_threads(self) -> int:
        if self.decoders is not None:
            return self.decoders.callers
        return self.workers or usable_cores() + self.engine.in_flight

    def _tasks(self, work: Checkpoints) -> Iterator[_Task]:
        size = self.engine.batch_size
        for number in work.shards:
            if work.is_finished(number):
                continue
            records = self.run.plan.shard(number)
            for start in range(work.done(number), len(records), size):
                yield _Task(number, records[start : start + size])
