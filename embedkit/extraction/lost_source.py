"""Holds back images that can't be read, until it is clear whether their source has gone away."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from embedkit.errors import SourceError
from embedkit.extraction.load_images import UnreadImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.store.shard_builder import ShardPart
    from embedkit.types import ImageRecord

__all__ = ["LostSource"]


class LostSource:
    """Counts images in a row that the source fails to give; used by one thread.

    A share that is unmounted, or a server that is down, fails for every image from then on. Those
    images are no failures: the run stops, and the next one reads them.

    Args:
        limit: So many in a row end the run; 0 never does.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row = 0
        self._held: list[tuple[int, ShardPart]] = []

    def passed(
        self, shard: int, records: Sequence[ImageRecord], part: ShardPart
    ) -> list[tuple[int, ShardPart]]:
        """Takes the next batch; gives those that may be added to their shards, in order.

        Args:
            shard: The shard that it belongs to.
            records: Its images.
            part: Their results.

        Raises:
            SourceError: Too many images in a row couldn't be read.
        """
        unread = {one.id: one.reason for one in part.failures if isinstance(one, UnreadImage)}
        lost = [record.id in unread for record in records]
        if all(lost):
            self._in_a_row += len(lost)
            self._held.append((shard, part))
            self._stop_at_limit(unread)
            return []
        self._in_a_row += sum(takewhile(bool, lost))
        self._stop_at_limit(unread)
        done, self._held = self._held, []
        self._in_a_row = sum(takewhile(bool, reversed(lost)))
        if not self._in_a_row:
            return [*done, (shard, part)]
        self._held.append((shard, part))
        self._stop_at_limit(unread)
        return done

    def rest(self) -> list[tuple[int, ShardPart]]:
        """What is still held back at the end: too few to say that the source has gone away."""
        done, self._held = self._held, []
        return done

    def _stop_at_limit(self, unread: dict[str, str]) -> None:
        if 0 < self._limit <= self._in_a_row:
            image_id, reason = next(iter(unread.items()))
            raise SourceError(
                f"{self._in_a_row:,} images in a row can't be read (such as {image_id}: {reason}); "
                "what was embedded before them is kept: run again when the source is back, or "
                "with max_read_errors=0 if they are gone for good"
            )
