"""Tracks the shards of a run, finished and unfinished, and saves them periodically."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import StoreCorruptError
from embedkit.store.format import StoreCounts
from embedkit.store.shard_builder import ShardBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.sources.shard_plan import Plan
    from embedkit.store.format import StoreMeta
    from embedkit.store.shard_builder import ShardPart
    from embedkit.store.working_dir import PartialStore
    from embedkit.types import Head

__all__ = ["Checkpoints", "FrozenRun"]

_SAVE_SECONDS = 10.0  # maximum work lost by a kill


@dataclass(frozen=True, slots=True)
class FrozenRun:
    """A frozen run: plan, metadata and head, identical for all processes and resumes.

    Attributes:
        partial: The working folder, where the shards go.
        plan: The images, cut into shards.
        meta: How the rows are made.
        head: The classifier to store with them.
    """

    partial: PartialStore
    plan: Plan
    meta: StoreMeta
    head: Head | None


class Checkpoints:
    """Collects the parts of each shard in order, and saves the shards.

    Used by one thread.

    Attributes:
        shards: The numbers of the shards that are collected, in order.
        counts: Counts of these shards, including earlier runs.
        total: Images of these shards.
        resumed: Images that earlier runs had done.
    """

    def __init__(self, run: FrozenRun, shards: Sequence[int]) -> None:
        """Loads the shards of earlier runs.

        Raises:
            StoreError: A saved shard is damaged.
        """
        self.shards = shards
        self._partial, self._plan, self._meta, self._head = (
            run.partial,
            run.plan,
            run.meta,
            run.head,
        )
        self.total = sum(self._plan.rows(number) for number in shards)
        self._builders: dict[int, ShardBuilder] = {}
        self._finished: set[int] = set()
        self.counts = StoreCounts(0, 0, 0)
        self._partial.refresh()
        for number in shards:
            self._resume_shard(number)
        self.resumed = self.images_done
        self._saved = time.monotonic()

    @property
    def images_done(self) -> int:
        """Images that are done, by earlier runs too."""
        return self.counts.found

    def is_finished(self, number: int) -> bool:
        """Whether a shard is saved and whole."""
        return number in self._finished

    def done(self, number: int) -> int:
        """How many images of a shard are done."""
        if number in self._finished:
            return self._plan.rows(number)
        if number not in self._builders:
            return 0
        return self._builders[number].counts.found

    def add(self, number: int, part: ShardPart) -> None:
        """Adds what comes next in a shard; saves the shard when it is full or long unsaved."""
        self._builder(number).add(part)
        self.counts += part.counts
        if self.done(number) == self._plan.rows(number):
            self._finish(number)
        elif time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Saves the unfinished shards."""
        for number, builder in self._builders.items():
            if self.done(number):
                content = builder.content(self._head, with_labels=self._plan.has_labels)
                self._partial.commit_unfinished(number, content)
        self._saved = time.monotonic()

    def _resume_shard(self, number: int) -> None:
        counts = self._partial.finished_counts(number)
        if counts is not None:
            self._check(number, counts.found, whole=True)
            self._finished.add(number)
            self.counts += counts
            return
        unfinished = self._partial.unfinished(number)
        if unfinished is not None:
            with closing(unfinished):
                self._check(number, unfinished.counts.found, whole=False)
                self._builder(number).load(unfinished)
        elif number == 0:
            self._builder(number)
        if number in self._builders:
            self.counts += self._builders[number].counts
            if self.done(number) == self._plan.rows(number):  # interrupted at its last step
                self._finish(number)

    def _check(self, number: int, done: int, *, whole: bool) -> None:
        rows = self._plan.rows(number)
        if not 0 <= done <= rows or (whole and done < rows):
            raise StoreCorruptError(
                f"{self._partial.folder}: shard {number} holds {done} of the plan's {rows} images; "
                "start again with overwrite=True"
            )

    def _builder(self, number: int) -> ShardBuilder:
        if number not in self._builders:
            self._builders[number] = ShardBuilder(self._meta, self._plan.rows(number))
        return self._builders[number]

    def _finish(self, number: int) -> None:
        content = self._builders[number].content(self._head, with_labels=self._plan.has_labels)
        self._partial.commit(number, content)
        self._finished.add(number)
        del self._builders[number]
        self._saved = time.monotonic()
