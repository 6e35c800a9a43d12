"""A single image file as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.sources.base import Source
from embedkit.sources.image_suffixes import has_image_name
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileSource"]


class FileSource(Source):
    """One image file.

    Args:
        path: A path or URL, which is the image's id.
        named: Whether the user named this very file: then it fails if it is no image.
    """

    def __init__(self, path: str, *, named: bool = False) -> None:
        self.path = path
        self.named = named and not has_image_name(path)

    def scan(self) -> Iterator[ImageRecord]:
        """Give the one record; whether the file can be read is for the reader to find out."""
        yield ImageRecord(id=self.path, path=self.path, named=self.named)
