"""What is proposed to be kept of a group that nobody has decided about yet."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from embedkit.dedup.cleanup.choose import KeepSelection, candidate_of
from embedkit.dedup.cleanup.compare import PixelComparison
from embedkit.dedup.cleanup.image_sides import ImageSides
from embedkit.dedup.cleanup.keep_policy import KeepPolicy
from embedkit.dedup.cleanup.original import with_traces
from embedkit.dedup.groups.grouping import copy_groups
from embedkit.errors import DecodeError, EmbedkitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.dedup.results import Duplicates

__all__ = ["Originals"]

_MOST_READ = 24  # images of a group, those of best quality: reading one takes some 10 ms


class Originals:
    """Finds the originals of groups, as a plan does by default; used by several threads.

    Args:
        found: What was found.
        images: As ``make_plan``'s.
    """

    def __init__(self, found: Duplicates, images: Sequence[Path]) -> None:
        self._found, self._lock, self._stack = found, threading.Lock(), ExitStack()
        self._sides = ImageSides(found, images, self._stack)
        self._comparison = PixelComparison(self._read)
        self._copies = copy_groups(found.pairs)
        self._selection = KeepSelection(found, KeepPolicy("original"))
        self._by_quality = KeepPolicy("best-quality")
        self._missing: EmbedkitError | None = None

    def keep(self, members: Sequence[int]) -> frozenset[int] | None:
        """The images to keep of a group; None if its images can't be read."""
        with self._lock:
            candidates = sorted(
                ((image, candidate_of(self._found, image)) for image in members),
                key=lambda one: self._by_quality.rank(one[1]),
            )
            judged = with_traces(
                candidates[:_MOST_READ], self._found.images.content_hash, self._copies,
                lambda image: self._comparison.traces(self._sides.key(image)),
            )  # fmt: skip
            if self._missing is not None:
                return None
            decided = self._selection.choose([*judged, *candidates[_MOST_READ:]])
            return frozenset(one.image for one in decided if one.copy_of is None)

    def _read(self, key: tuple[int, str]) -> bytes:
        if self._missing is not None:
            raise self._missing
        try:
            return self._sides.read(key)
        except DecodeError:  # of this image alone
            raise
        except EmbedkitError as exc:  # the images aren't there, and aren't looked for again
            self._missing = exc
            raise

    def close(self) -> None:
        """Closes the images."""
        self._stack.close()
