"""What an update did: its result, and the images of the store that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.extraction.runner import ExtractResult
from embedkit.extraction.source_changes import State
from embedkit.store.arrangement import FAILED, SKIPPED, Arrangement
from embedkit.store.gather import ids_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from embedkit.extraction.source_changes import Comparison
    from embedkit.store.store import EmbeddingStore
    from embedkit.types import ImageRecord

__all__ = ["UpdateResult", "arrange", "only_retried", "recovered"]


@dataclass(frozen=True, slots=True, repr=False)
class UpdateResult(ExtractResult):
    """Result of an update. The counts are those of the store as it is now.

    Attributes:
        written: Whether the store was written; False if there was nothing to change.
        generation: How many times the store was updated.
        added: Ids of the images that the source has and the store had not.
        changed: Ids of the images whose content is another one.
        removed: Ids of the images that the store no longer has.
        relabeled: Ids of the images whose label is another one.
        recovered: Ids of the images that failed before and are embedded now.
    """

    written: bool = False
    generation: int = 0
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    relabeled: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()

    def _summary(self) -> str:
        changes = f"+{len(self.added)} ~{len(self.changed)} -{len(self.removed)}"
        return f"{str(self.path)!r}, {changes}, now {self.embedded:,} embedded"


def arrange(
    found: Comparison,
    wanted: NDArray[np.bool_],
    store: EmbeddingStore,
    new: EmbeddingStore | None,
    records: Iterable[ImageRecord],
) -> Arrangement:
    """The images of a store as its source is now.

    Args:
        found: The comparison of store and source.
        wanted: ``(n,)``: which of the images were embedded.
        store: The store before.
        new: A store of what was embedded; None if nothing was.
        records: What was embedded, in order.
    """
    rows = np.where(found.states == State.SKIPPED, SKIPPED, found.rows)
    rows[wanted] = list(_new_rows(store, new, records))
    labels = np.where(wanted | bool(store.meta.labels_from), -1, found.labels).astype(np.int32)
    texts = [text.encode("utf-8", "surrogateescape") for text in found.label_texts]
    return Arrangement(
        rows, found.shards, np.where(wanted, -1, found.mtimes), labels,
        found.states == State.TOUCHED, texts, [] if new is None else list(new.failures()),
        found.etags,
    )  # fmt: skip


def only_retried(images: Arrangement, states: NDArray[np.int8]) -> Arrangement:
    """The images of `arrange` without those that are new, and with the times and labels before."""
    stays = states != State.ADDED
    as_before = np.full(int(stays.sum()), -1)
    return Arrangement(
        images.rows[stays], images.shards[stays], as_before, as_before.astype(np.int32),
        as_before >= 0, images.label_texts, images.failures,
    )  # fmt: skip


def recovered(
    images: Arrangement, states: NDArray[np.int8], first: int, new: EmbeddingStore | None
) -> tuple[str, ...]:
    """Ids of the images that failed before and are embedded now.

    Args:
        images: As of `arrange`.
        states: As of the comparison.
        first: The number of the first new row.
        new: The store of the new rows.
    """
    if new is None:
        return ()
    rows = images.rows[(states == State.FAILED) & (images.rows >= first)] - first
    return tuple(name.decode("utf-8", "surrogateescape") for name in ids_at(new, rows))


def _new_rows(
    store: EmbeddingStore, new: EmbeddingStore | None, records: Iterable[ImageRecord]
) -> Iterator[int]:
    """What became of each image that was embedded: its row, ``FAILED`` or ``SKIPPED``."""
    if new is None:
        return
    ids, failures = iter(new.ids), (failure.id for failure in new.failures())
    row, next_id, next_failure = len(store), next(ids, None), next(failures, None)
    for record in records:
        if record.id == next_id:
            yield row
            row, next_id = row + 1, next(ids, None)
        elif record.id == next_failure:
            yield FAILED
            next_failure = next(failures, None)
        else:
            yield SKIPPED
