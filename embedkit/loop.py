"""The loop from a frozen plan to finished shards: overlap, checkpoints, progress, stopping."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from embedkit.decode import DecodePolicy
from embedkit.pipeline import BatchProcessor, in_order
from embedkit.sources import ImageReader
from embedkit.store.build import ShardBuilder
from embedkit.store.format import StoreCounts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.engines import Engine
    from embedkit.records import ImageRecord
    from embedkit.sources.plan import Plan
    from embedkit.store.build import ShardPart
    from embedkit.store.format import StoreMeta
    from embedkit.store.partial import PartialStore

__all__ = ["ExtractResult", "Progress", "Run"]

_COMMIT_SECONDS = 10.0  # the most work that a kill can cost


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an extraction is.

    Attributes:
        done: Images finished, those of earlier runs included.
        total: Images in the plan.
        failed: Images that could not be embedded.
        seconds: Since this run's loop began.
        images_per_second: This run's rate.
    """

    done: int
    total: int
    failed: int
    seconds: float = 0.0
    images_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What an extraction did. ``found = embedded + failed + skipped`` when it is complete.

    Attributes:
        path: The store.
        complete: False if the run was stopped before its end.
        found: Files that the source listed.
        embedded: Rows of the store.
        failed: Images that could not be embedded; the store names each with its reason.
        skipped: Files that are no images.
        resumed: Images that an earlier run had already done.
        seconds: Of this run's loop.
        images_per_second: This run's rate.
    """

    path: Path
    complete: bool
    found: int
    embedded: int
    failed: int
    skipped: int
    resumed: int
    seconds: float = 0.0
    images_per_second: float = 0.0

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


class _Task(NamedTuple):
    """One batch: the shard that it belongs to, and its images."""

    shard: int
    records: list[ImageRecord]


@dataclass
class Run:
    """One run over a frozen plan: embeds what is missing, commits as it goes.

    Attributes:
        partial: Where the shards go.
        plan: What to embed.
        meta: How the rows are made.
        backbone: What embeds.
        engine: What runs it.
        workers: Threads.
    """

    partial: PartialStore
    plan: Plan
    meta: StoreMeta
    backbone: Backbone
    engine: Engine
    workers: int

    def __post_init__(self) -> None:
        self._builders: dict[int, ShardBuilder] = {}
        self._counts = StoreCounts(0, 0, 0)  # of all that is finished, shards before this run too
        self._resumed = 0
        self._began = self._committed = time.monotonic()

    def go(
        self, stop: threading.Event | None, on_progress: Callable[[Progress], None] | None
    ) -> ExtractResult:
        """Embeds until the plan is done or ``stop`` is set.

        Whatever ends it, an error or Ctrl-C too, what was embedded is committed first.
        """
        self._take_up()
        policy = DecodePolicy.from_config(self.meta.decode)
        with ImageReader(max_bytes=policy.max_bytes) as reader:
            process = BatchProcessor(
                reader,
                policy,
                self.backbone.preprocessing,
                self.engine,
                self.meta.dtype,
                self.meta.normalized,
            )
            results = in_order(lambda task: process(task.records), self._tasks(), self.workers)
            try:
                with closing(results):
                    for task, part in results:
                        self._add(task, part)
                        if on_progress is not None:
                            on_progress(self._progress())
                        if stop is not None and stop.is_set():
                            break
            finally:
                self._commit_unfinished()
        progress = self._progress()
        return ExtractResult.of(
            self.partial.output,
            self._counts,
            complete=progress.done == progress.total,
            resumed=self._resumed,
            seconds=progress.seconds,
            images_per_second=progress.images_per_second,
        )

    def _take_up(self) -> None:
        """Counts what earlier runs finished, and loads the shard that one left unfinished."""
        for number in range(self.plan.num_shards):
            if self.partial.has_shard(number):
                self._counts += self.partial.finished_counts(number)
                continue
            unfinished = self.partial.unfinished(number)
            if unfinished is not None:
                builder = self._builder(number)
                builder.load(unfinished)
                unfinished.close()
                self._counts += builder.counts
        if not self.partial.has_shard(0) and 0 not in self._builders:
            self._counts += self._builder(0).counts
        self._resumed = self._counts.found - self.plan.sidecars
        self._began = self._committed = time.monotonic()

    def _builder(self, number: int) -> ShardBuilder:
        """The shard in the making; the first one also counts the sidecars as skipped."""
        if number not in self._builders:
            sidecars = 0 if number else self.plan.sidecars
            self._builders[number] = ShardBuilder(self.meta, self._rows(number), sidecars)
        return self._builders[number]

    def _rows(self, number: int) -> int:
        return min(self.plan.shard_rows, self.plan.count - number * self.plan.shard_rows)

    def _done(self, number: int) -> int:
        """How many of a shard's images are finished."""
        return self._builder(number).counts.found - (0 if number else self.plan.sidecars)

    def _tasks(self) -> Iterator[_Task]:
        size = self.engine.batch_size
        for number in range(self.plan.num_shards):
            if self.partial.has_shard(number):
                continue
            records = self.plan.shard(number)
            for start in range(self._done(number), len(records), size):
                yield _Task(number, records[start : start + size])

    def _add(self, task: _Task, part: ShardPart) -> None:
        """Adds a batch to its shard; commits the shard when it is full or long uncommitted."""
        builder = self._builder(task.shard)
        builder.add(part)
        self._counts += part.counts
        if self._done(task.shard) == self._rows(task.shard):
            content = builder.content(self.backbone.head, with_labels=self.plan.has_labels)
            self.partial.commit(task.shard, content)
            del self._builders[task.shard]
            self._committed = time.monotonic()
        elif time.monotonic() - self._committed > _COMMIT_SECONDS:
            self._commit_unfinished()

    def _commit_unfinished(self) -> None:
        for number, builder in self._builders.items():
            content = builder.content(self.backbone.head, with_labels=self.plan.has_labels)
            self.partial.commit_unfinished(number, content)
        self._committed = time.monotonic()

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._began
        done = self._counts.found - self.plan.sidecars
        rate = (done - self._resumed) / seconds if seconds > 0 else 0.0
        return Progress(done, self.plan.count, self._counts.failed, seconds, rate)
