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
    skips = images.rows == SKIPPED
    cutter = _Cutter(skips, np.concatenate([[0], np.cumsum(skips)]), shard_rows)
    known = np.flatnonzero((images.shards >= 0) & ~skips)
    homes = images.shards[known]
    if not len(known) or (np.diff(homes) < 0).any():
        return list(cutter.fresh(0, len(skips)))
    numbers, first = np.unique(homes, return_index=True)
    starts = known[first].tolist()
    stops = [*(known[first[1:] - 1] + 1).tolist(), int(known[-1]) + 1]
    spans = [Piece(*span) for span in zip(starts, stops, numbers.tolist(), strict=True)]
    rest = [
        before[number].skipped - cutter.skipped_in(start, stop)
        for start, stop, number in zip(starts, stops, numbers.tolist(), strict=True)
    ]
    pieces = []
    for piece in cutter.join(spans, rest):
        grew = piece.shard is not None and piece.size > before[piece.shard].found
        pieces += cutter.of_usual_size(piece) if grew else [piece]
    return pieces


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Gives the images between two shards to one of them, or to new shards.

    A shard without an image would not be found again, so skipped files alone never make one.
    """

    skips: NDArray[np.bool_]
    counts: NDArray[np.int64]  # skipped files before each image
    shard_rows: int

    def skipped_in(self, start: int, stop: int) -> int:
        """How many of some files are skipped."""
        return int(self.counts[stop] - self.counts[start])

    def join(self, spans: Sequence[Piece], rest: Sequence[int]) -> Iterator[Piece]:
        """Pieces that cover all images.

        Args:
            spans: Each shard that is left, from its first known image to its last.
            rest: How many skipped files each of them had at its ends.
        """
        begin = 0
        for number, span in enumerate(spans):
            if number == 0:
                begin = self._begin_of_first(span, rest[0])
                yield from self.fresh(0, begin)
            following = spans[number + 1] if number + 1 < len(spans) else None
            stop = len(self.skips) if following is None else following.start
            more = 0 if following is None else rest[number + 1]
            left = rest[number] - self.skipped_in(begin, span.start)
            end, next_begin = self._between(span.stop, stop, span.stop - begin, left, more)
            yield Piece(begin, end, span.shard)
            yield from self.fresh(end, next_begin)
            begin = next_begin

    def fresh(self, start: int, stop: int) -> Iterator[Piece]:
        """New shards of the usual size."""
        images = start + np.flatnonzero(~self.skips[start:stop])
        cuts = [start, *images[self.shard_rows :: self.shard_rows].tolist(), stop]
        if start < stop:
            yield from (Piece(*cut) for cut in pairwise(cuts))

    def of_usual_size(self, piece: Piece) -> list[Piece]:
        """The piece, or several of equal sizes in place of one that grew too large."""
        images = piece.start + np.flatnonzero(~self.skips[piece.start : piece.stop])
        if len(images) <= _LARGEST * self.shard_rows:
            return [piece]
        count = -(-len(images) // self.shard_rows)
        inner = [int(images[len(images) * i // count]) for i in range(1, count)]
        return [Piece(*cut) for cut in pairwise([piece.start, *inner, piece.stop])]

    def _begin_of_first(self, span: Piece, rest: int) -> int:
        """Where the first shard begins; what is before it are shards of their own."""
        run = self.skips[: span.start]
        trail = min(_leading(run[::-1]), max(rest, 0))
        if run.all() or span.stop <= self.shard_rows:
            return 0
        return span.start - trail

    def _between(self, start: int, stop: int, size: int, left: int, more: int) -> tuple[int, int]:
        """Where the shard before ends, and where the shard after begins."""
        run = self.skips[start:stop]
        lead = min(_leading(run), max(left, 0))
        trail = min(_leading(run[::-1]), max(more, 0), len(run) - lead)
        if run.all() or size + len(run) - trail <= self.shard_rows:
            return stop - trail, stop - trail
        return start + lead, stop - trail


def _leading(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(np.argmin(flags))
