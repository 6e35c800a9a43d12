"""The images that near-duplicates were found among, as files and as bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from embedkit.dedup.cleanup.paths import PlainFile, find_file
from embedkit.extraction.source_images import OriginalImages

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from contextlib import ExitStack

    from embedkit.dedup.results import Duplicates

__all__ = ["ImageSides"]


class ImageSides:
    """Reads the images of the store and of the other one, whose ids may be the same.

    Several threads may use it.

    Args:
        found: What was found.
        images: As ``make_plan``'s.
        stack: Closes what is opened.
        root: As ``make_plan``'s.

    Attributes:
        folders: Of each store the folders that relative ids may start from.
    """

    def __init__(
        self,
        found: Duplicates,
        images: Sequence[str | os.PathLike[str]],
        stack: ExitStack,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self._found, self._images, self._stack = found, images, stack
        near = () if found.folder is None else (found.folder.parent,)
        self.folders = [s.folders(root, near) for s in (found.store, found.against) if s]
        self._own = found.is_of_store()
        self._opened: dict[int, OriginalImages] = {}
        self._lock = threading.Lock()

    def key(self, image: int) -> tuple[int, str]:
        """What ``read`` knows an image by."""
        return int(not self._own[image]), self._found.images.ids[image]

    def file(self, image: int) -> PlainFile | str:
        """The file of an image, or why it can't be acted on.

        Raises:
            DedupError: Several files have its name.
        """
        number, name = self.key(image)
        return find_file(name, self.folders[number])

    def read(self, key: tuple[int, str]) -> bytes:
        """The encoded image.

        Raises:
            EmbedkitError: It can't be read, or isn't the image that was embedded.
        """
        return self._opened_side(key[0]).read(key[1])

    def refuse_missing(self) -> None:
        """Refuses sources that have none of the images, before they are compared.

        Raises:
            SourceError: ``images`` has none of a store's.
        """
        if self._images:
            for side in range(len(self.folders)):
                self._opened_side(side)

    def _opened_side(self, side: int) -> OriginalImages:
        with self._lock:
            if side not in self._opened:
                self._opened[side] = self._stack.enter_context(self._open(bool(side)))
        return self._opened[side]

    def _open(self, other: bool) -> OriginalImages:
        hashes = {
            name: digest.tobytes()
            for name, digest, own in zip(
                self._found.images.ids, self._found.images.content_hash, self._own, strict=True
            )
            if own != other
        }
        if self._images:
            return OriginalImages.of_source(self._images, list(hashes), None, hashes)
        return OriginalImages.by_ids(hashes, self.folders[other], None, hashes)
