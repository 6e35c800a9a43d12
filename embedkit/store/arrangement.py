"""Which images a store will hold after an update, in their order, and cut into shards.

Shards of the store before are kept together, so that only those with a change are written again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.store.format import StoreCounts
    from embedkit.types import ImageFailure

__all__ = ["FAILED", "SKIPPED", "Arrangement", "Piece", "cut_into_shards"]

FAILED, SKIPPED = -1, -2
_LARGEST = 2  # times the usual size; a shard that grew beyond is cut


@dataclass(frozen=True, slots=True)
class Arrangement:
    """All images of an updated store, in order.

    Attributes:
        rows: ``(n,)`` int64: the row that an image gets, numbered through the store before and the
            new rows; ``FAILED`` or ``SKIPPED`` for an image without one.
        shards: ``(n,)`` int32: the shard that an image was in; -1 for one that was in none.
        mtimes: ``(n,)`` int64, ns since 1970; -1 where the time of the row stays.
        labels: ``(n,)`` int32, numbers of labels in ``label_texts``; -1 where the row's
            label stays.
        touched: ``(n,)`` bool: the image has another time than its row.
        label_texts: The different labels, as stored.
        failures: The failures, in order.
        etags: The versions of images behind URLs, by row, where they are others than the row's.
    """

    rows: NDArray[np.int64]
    shards: NDArray[np.int32]
    mtimes: NDArray[np.int64]
    labels: NDArray[np.int32]
    touched: NDArray[np.bool_]
    label_texts: Sequence[bytes]
    failures: Sequence[ImageFailure]
    etags: Mapping[int, bytes] = field(default_factory=dict)

    def with_kept(
        self, rows: NDArray[np.int64], shards: NDArray[np.int32], before: NDArray[np.int64]
    ) -> Self:
        """Inserts rows of images that aren't listed any more, each after the row before it.

        Args:
            rows: ``(r,)``, ascending.
            shards: ``(r,)``, their shards.
            before: ``(n,)``: the row that each image had in the store before; -1 for none.
        """
        last = int(max(rows.max(initial=-1), before.max(initial=-1)))
        place = np.full(last + 1, -1, np.int64)
        listed = np.flatnonzero(before >= 0)
        place[before[listed]] = listed
        nearest = np.maximum.accumulate(np.where(place >= 0, np.arange(len(place)), 0))
        here, there = np.arange(len(self.rows)), place[nearest][rows]
        order = np.lexsort((np.concatenate([here * 0, rows + 1]), np.concatenate([here, there])))
        stays = np.full(len(rows), -1)
        return type(self)(
            np.concatenate([self.rows, rows])[order],
            np.concatenate([self.shards, shards])[order],
            np.concatenate([self.mtimes, stays])[order],
            np.concatenate([self.labels, stays.astype(np.int32)])[order],
            np.concatenate([self.touched, stays >= 0])[order],
            self.label_texts,
            self.failures,
            self.etags,
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """A shard of the updated store.

    Attributes:
        start: Its first image.
        stop: The image after its last.
        shard: The shard that it continues; None for a new one.
    """

    start: int
    stop: int
    shard: int | None = None

    @property
    def size(self) -> int:
        """How many images it has."""
        return self.stop - self.start


def cut_into_shards(
    images: Arrangement, before: Sequence[StoreCounts], shard_rows: int
) -> list[Piece]:
    """Cuts the images into shards along those of the store before.

    An image that is new lies in the shard of its neighbours. Between two shards, new images
    fill up the first one, or become shards of their own if it is full. Where the order of the
    images has changed, all shards are cut anew.

    Args:
        images: The images.
        before: What each shard of the store before holds.
        shard_rows: Images per new shard.
    """
    known = np.flatnonzero(images.shards >= 0)
    homes = images.shards[known]
    if not len(known) or (np.diff(homes) < 0).any():
        return list(_fresh(0, len(images.rows), shard_rows))
    numbers, first = np.unique(homes, return_index=True)
    starts = known[first].tolist()
    stops = [*(known[first[1:] - 1] + 1).tolist(), int(known[-1]) + 1]
    skipped = np.concatenate([[0], np.cumsum(images.rows == SKIPPED)])
    spans = [Piece(*span) for span in zip(starts, stops, numbers.tolist(), strict=True)]
    rest = [
        before[number].skipped - int(skipped[stop] - skipped[start])
        for start, stop, number in zip(starts, stops, numbers.tolist(), strict=True)
    ]
    cutter = _Cutter(images.rows == SKIPPED, shard_rows)
    pieces = list(cutter.join(spans, rest))
    return [one for piece in pieces for one in _of_usual_size(piece, shard_rows)]


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Gives the images between two shards to one of them, or to new shards."""

    skipped: NDArray[np.bool_]
    shard_rows: int

    def join(self, spans: Sequence[Piece], rest: Sequence[int]) -> Iterator[Piece]:
        """Pieces that cover all images.

        Args:
            spans: Each shard that is left, from its first known image to its last.
            rest: How many skipped files each of them had at its ends.
        """
        begin = 0
        for number, span in enumerate(spans):
            if number == 0:
                own, begin = self._before_all(span, rest[0])
                yield from own
            following = spans[number + 1] if number + 1 < len(spans) else None
            stop = len(self.skipped) if following is None else following.start
            more = 0 if following is None else rest[number + 1]
            left = rest[number] - int(self.skipped[begin : span.start].sum())
            end, next_begin = self._between(span.stop, stop, span.stop - begin, left, more)
            yield Piece(begin, end, span.shard)
            yield from _fresh(end, next_begin, self.shard_rows)
            begin = next_begin

    def _before_all(self, span: Piece, rest: int) -> tuple[list[Piece], int]:
        """The images before the first shard: its own ones begin at the number that is returned."""
        run = self.skipped[: span.start]
        trail = min(_leading(run[::-1]), max(rest, 0))
        others = span.start - trail
        if run.all() or others + trail + span.size <= self.shard_rows:
            return [], 0
        return list(_fresh(0, others, self.shard_rows)), others

    def _between(self, start: int, stop: int, size: int, left: int, more: int) -> tuple[int, int]:
        """Where the shard before ends, and where the shard after begins."""
        run = self.skipped[start:stop]
        lead = min(_leading(run), max(left, 0))
        trail = min(_leading(run[::-1]), max(more, 0), len(run) - lead)
        joined = size + len(run) - trail
        if run.all() or joined <= self.shard_rows:
            return stop - trail, stop - trail
        return start + lead, stop - trail


def _leading(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(np.argmin(flags))


def _of_usual_size(piece: Piece, shard_rows: int) -> list[Piece]:
    """The piece, or several of equal sizes in place of one that grew too large."""
    if piece.size <= _LARGEST * shard_rows:
        return [piece]
    count = -(-piece.size // shard_rows)
    cuts = [piece.start + piece.size * i // count for i in range(count + 1)]
    return [Piece(start, stop) for start, stop in pairwise(cuts)]


def _fresh(start: int, stop: int, shard_rows: int) -> Iterator[Piece]:
    for begin in range(start, stop, shard_rows):
        yield Piece(begin, min(begin + shard_rows, stop))
