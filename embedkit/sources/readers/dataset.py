"""Reads images from the datasets of Hugging Face that are open in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.sources.arrow_rows import item_at
from embedkit.sources.dataset import open_dataset
from embedkit.sources.io import storage
from embedkit.sources.readers.file import KindReader, decode_errors

if TYPE_CHECKING:
    from embedkit.types import ImageRecord

__all__ = ["DatasetReader"]


class DatasetReader(KindReader):
    """Reads rows of datasets.

    Args:
        max_bytes: Larger images are refused.
    """

    def read(self, record: ImageRecord) -> bytes:
        """Return the image's bytes."""
        with decode_errors(record, IndexError, KeyError):
            buffer = _buffer(record)
            storage.check_size(len(buffer), self.max_bytes)
            return bytes(buffer)

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the image's first ``n`` bytes."""
        with decode_errors(record, IndexError, KeyError):
            return bytes(_buffer(record)[:n])

    def close(self) -> None:
        """Nothing is open."""


def _buffer(record: ImageRecord) -> memoryview:
    column, _, place = (record.key or "").rpartition("/")
    row, _, item = place.partition(":")
    top, *names = column.split(".")
    dataset = open_dataset(record.path)
    table = dataset.select_columns([top]).with_format("arrow")[int(row)]
    buffer = item_at(table.column(top), 0, int(item) if item else None, names)
    if buffer is None:
        raise ValueError("no image: the bytes are null")
    return memoryview(buffer)
