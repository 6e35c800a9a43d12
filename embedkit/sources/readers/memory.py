"""Reads images whose records hold their encoded bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.sources.readers.file import KindReader

if TYPE_CHECKING:
    from embedkit.types import ImageRecord

__all__ = ["MemoryReader"]


class MemoryReader(KindReader):
    """Gives the bytes that a record holds."""

    def read(self, record: ImageRecord) -> bytes:
        """Return the image's bytes."""
        return record.data or b""

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the image's first ``n`` bytes."""
        return self.read(record)[:n]

    def close(self) -> None:
        """Nothing is open."""
