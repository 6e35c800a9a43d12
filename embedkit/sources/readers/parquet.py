"""Reads images from Parquet files, one row group at a time, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.sources.arrow_rows import item_at
from embedkit.sources.io import storage
from embedkit.sources.readers.file import KindReader, decode_errors
from embedkit.sources.readers.handle_cache import HandleCache
from embedkit.sources.readers.stream_window import ForwardWindow

if TYPE_CHECKING:
    from collections.abc import Generator

    from embedkit.types import ImageRecord

__all__ = ["ParquetReader"]

_MAX_GROUPS = 3
_WINDOW = 128 * 2**20
_ROWS = 16
"""Rows decoded at once: large enough to be quick, small enough to bound the memory."""

_Group = tuple[str, str, int]


class ParquetReader(KindReader):
    """Reads rows of Parquet files; the last row groups stay in memory, up to a bound.

    Args:
        max_bytes: Larger images are refused.
    """

    def __init__(self, max_bytes: int) -> None:
        import pyarrow as pa

        super().__init__(max_bytes)
        self._errors: tuple[type[Exception], ...] = (
            pa.ArrowException, IndexError, UnicodeDecodeError,
        )  # fmt: skip
        self._groups: HandleCache[_Group, ForwardWindow[Any]] = HandleCache(
            _open_group, ForwardWindow.close, _MAX_GROUPS
        )

    def read(self, record: ImageRecord) -> bytes:
        """Return the image's bytes."""
        with decode_errors(record, *self._errors):
            buffer = self._buffer(record)
            storage.check_size(len(buffer), self.max_bytes)
            return bytes(buffer)

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the image's first ``n`` bytes."""
        with decode_errors(record, *self._errors):
            return bytes(self._buffer(record)[:n])

    def _buffer(self, record: ImageRecord) -> memoryview:
        column, group, row, place = _place(record)
        with self._groups.lease((record.path, column, group)) as window:
            pieces = window.get(row, row + 1)
        if not pieces:
            raise ValueError("the file has changed since it was listed")
        first, values = pieces[0]
        buffer = item_at(values, row - first, place)
        if buffer is None:
            raise ValueError("no image: the bytes are null")
        return memoryview(buffer)

    def close(self) -> None:
        """Let go of the row groups."""
        self._groups.close()


def _place(record: ImageRecord) -> tuple[str, int, int, int | None]:
    column, group, row = (record.key or "").rsplit("/", 2)
    row, _, place = row.partition(":")
    return column, int(group), int(row), int(place) if place else None


def _open_group(key: _Group) -> ForwardWindow[Any]:
    return ForwardWindow(
        lambda: _values(*key), length=len, cost=lambda values: int(values.nbytes), limit=_WINDOW
    )


def _values(path: str, column: str, group: int) -> Generator[Any, None, None]:
    """Yield the column of one row group in arrays of a few rows."""
    import pyarrow.parquet as pq

    # Each row group has a file of its own: pyarrow's reader is not for several threads.
    with storage.open_random(path) as raw, pq.ParquetFile(raw) as table:
        for batch in table.iter_batches(_ROWS, row_groups=[group], columns=[column]):
            yield batch.column(0)
