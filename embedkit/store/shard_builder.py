"""Collects the rows of one shard in memory, in the order of the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.store.format import (
    COLUMN_SHAPES,
    IMAGE_DTYPES,
    OPTIONAL_DTYPES,
    USUAL_COLUMNS,
    RowBlock,
    StoreCounts,
    StoreMeta,
    ordered_columns,
)
from embedkit.store.writer import ShardContent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from embedkit.store.reader import ShardFile
    from embedkit.types import Head, ImageFacts, ImageFailure

__all__ = ["ShardBuilder", "ShardPart", "columns_of", "make_block"]


@dataclass(frozen=True, slots=True)
class ShardPart:
    """The results of consecutive images: each was embedded, failed or was skipped.

    Attributes:
        rows: The embedded ones; None if there are none.
        failures: The failed ones.
        skipped: How many were no images.
    """

    rows: RowBlock | None
    failures: tuple[ImageFailure, ...]
    skipped: int

    @property
    def counts(self) -> StoreCounts:
        """How many of each."""
        return StoreCounts(len(self.rows) if self.rows else 0, len(self.failures), self.skipped)


def make_block(
    ids: Sequence[str],
    embeddings: NDArray[np.floating],
    facts: Sequence[ImageFacts],
    labels: Sequence[str | None],
) -> RowBlock:
    """Turns what the loop has into rows.

    Args:
        ids: n ids.
        embeddings: ``(n, D)``, already in the store's dtype.
        facts: n image facts.
        labels: n labels, None where an image has none.
    """
    images = {
        name: np.array([getattr(fact, name) for fact in facts], dtype)
        for name, dtype in {**IMAGE_DTYPES, **OPTIONAL_DTYPES}.items()
        if name not in COLUMN_SHAPES and not dtype.hasobject
    }
    if any(fact.etag for fact in facts):
        etags = [fact.etag.encode("utf-8", "surrogateescape") for fact in facts]
        images["etag"] = np.array(etags, object)
    images["format"] = np.array([fact.format.encode("ascii") for fact in facts], object)
    images["camera"] = np.array([fact.camera.encode("utf-8") for fact in facts], object)
    images["content_hash"] = _bytes_column("content_hash", facts)
    if any(fact.thumbnail for fact in facts):
        images["thumbnail"] = _bytes_column("thumbnail", facts)
    return RowBlock(
        embeddings,
        [name.encode("utf-8", "surrogateescape") for name in ids],
        images,
        [(label or "").encode("utf-8", "surrogateescape") for label in labels],
    )


def _bytes_column(name: str, facts: Sequence[ImageFacts]) -> NDArray[np.uint8]:
    """A column whose values are bytes; zeros where an image has none."""
    shape = COLUMN_SHAPES[name]
    unknown = bytes(math.prod(shape))
    values = b"".join(getattr(fact, name) or unknown for fact in facts)
    return np.frombuffer(values, "u1").reshape(len(facts), *shape)


def columns_of(blocks: Sequence[RowBlock], omitted: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of ``/images`` to write for some rows: the usual ones, and more if known.

    Args:
        blocks: The rows. Where there are none, the shard gets what others may have, so that all
            shards of a store have thumbnails.
        omitted: Columns to leave out.
    """
    known = {name for block in blocks for name in block.images} if blocks else {"thumbnail"}
    return ordered_columns({*USUAL_COLUMNS, *known} - {*omitted})


class ShardBuilder:
    """Collects the rows of a shard.

    A part is added in one step, so whenever the run is interrupted the builder is consistent.
    """

    def __init__(self, meta: StoreMeta, capacity: int) -> None:
        """An empty shard.

        Args:
            meta: How the rows are made.
            capacity: Maximum number of rows.
        """
        self._meta = meta
        self._embeddings = np.empty((capacity, meta.feature_dim), meta.dtype)
        # Each part with the counts so far: one step adds both, whatever interrupts the run.
        self._parts = [(ShardPart(None, (), 0), StoreCounts(0, 0, 0))]

    @property
    def counts(self) -> StoreCounts:
        """What the shard holds so far."""
        return self._parts[-1][1]

    def load(self, shard: ShardFile) -> None:
        """Loads an unfinished shard, which replaces the current content."""
        before = ShardPart(None, tuple(shard.failures()), shard.counts.skipped)
        self._parts = [(before, before.counts)]
        for block in shard.blocks():
            self.add(ShardPart(block, (), 0))

    def add(self, part: ShardPart) -> None:
        """Appends the next part; the embeddings are copied."""
        if part.rows is not None:
            rows = part.rows
            start = self.counts.embedded
            kept = self._embeddings[start : start + len(rows)]
            kept[:] = rows.embeddings
            block = RowBlock(kept, rows.ids, rows.images, rows.labels)
            part = ShardPart(block, part.failures, part.skipped)
        self._parts.append((part, self.counts + part.counts))

    def content(self, head: Head | None, *, with_labels: bool) -> ShardContent:
        """The content that a save would write."""
        rows = [part.rows for part, _ in self._parts if part.rows is not None]
        return ShardContent(
            self._meta,
            self.counts,
            rows,
            [failure for part, _ in self._parts for failure in part.failures],
            with_labels,
            head,
            columns_of(rows, self._meta.omitted_columns),
        )
