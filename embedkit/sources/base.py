"""The base class of image sources, and the concatenation of several sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedkit.types import ImageRecord

__all__ = ["ChainSource", "PrefixedSource", "Source"]


class Source(ABC):
    """A source of images, such as a folder, list, archive or Parquet file."""

    @abstractmethod
    def scan(self) -> Iterator[ImageRecord]:
        """List the images, always in the same order, one at a time.

        A part that can't be read (a damaged archive, a folder without permission) gives a record
        with ``problem`` set, and the scan continues.

        Returns:
            The records; memory stays bounded however many there are.

        Raises:
            SourceError: The source can't be listed at all.
        """


class ChainSource(Source):
    """Several sources, one after the other, in the given order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def scan(self) -> Iterator[ImageRecord]:
        """List the images of each source in turn."""
        for source in self.sources:
            yield from source.scan()


class PrefixedSource(Source):
    """A source whose ids begin with a name, so that they differ from those of another one.

    Args:
        source: The source.
        prefix: ``NAME`` makes ``NAME/photos/a.jpg`` of ``photos/a.jpg``.

    Raises:
        SourceError: The name is empty, or no file could have it.
    """

    def __init__(self, source: Source, prefix: str) -> None:
        self.source = source
        self.prefix = prefix.rstrip("/")
        if not self.prefix.strip() or not self.prefix.isprintable():
            raise SourceError(f"prefix={prefix!r}: give a name without control characters")

    def scan(self) -> Iterator[ImageRecord]:
        """List the source's images under their new ids."""
        for record in self.source.scan():
            yield replace(record, id=f"{self.prefix}/{record.id}")
