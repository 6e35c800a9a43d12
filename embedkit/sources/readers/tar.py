"""Reads members of tar archives: uncompressed ones by offset, compressed ones sequentially."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embedkit.sources.io import storage
from embedkit.sources.readers.compression import COMPRESSION_ERRORS, decompress
from embedkit.sources.readers.file import KindReader, decode_errors
from embedkit.sources.readers.handle_cache import HandleCache
from embedkit.sources.readers.stream_window import ForwardWindow

if TYPE_CHECKING:
    from embedkit.types import ImageRecord

__all__ = ["TarReader"]

_MAX_FILES = 32
_MAX_STREAMS = 4
_WINDOW = 64 * 2**20


class TarReader(KindReader):
    """Reads members of tar archives from the offsets that the scan found.

    Args:
        max_bytes: Larger members are refused.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._files: HandleCache[str, int] = HandleCache(storage.open_local, os.close, _MAX_FILES)
        self._streams: HandleCache[tuple[str, str], ForwardWindow[bytes]] = HandleCache(
            _open_stream, ForwardWindow.close, _MAX_STREAMS
        )

    def read(self, record: ImageRecord) -> bytes:
        """Return the member's bytes."""
        offset, size = _extent(record)
        return self._data(record, offset, size)

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the member's first ``n`` bytes."""
        offset, size = _extent(record)
        return self._data(record, offset, min(n, size))

    def _data(self, record: ImageRecord, offset: int, size: int) -> bytes:
        with decode_errors(record, *COMPRESSION_ERRORS):
            data = self._bytes(record, offset, size)
            if len(data) != size:
                raise ValueError(f"the archive ends inside this member ({len(data)} of {size})")
            return data

    def _bytes(self, record: ImageRecord, offset: int, size: int) -> bytes:
        if record.key is not None:
            return self._decompressed(record.path, record.key, offset, size)
        local = storage.local_path(record.path)
        if local is None:
            return storage.read_range(record.path, offset, offset + size) if size else b""
        with self._files.lease(local) as descriptor:
            # pread has no position to share, so the threads don't wait for each other.
            return os.pread(descriptor, size, offset)

    def _decompressed(self, path: str, compression: str, offset: int, size: int) -> bytes:
        with self._streams.lease((path, compression)) as window:
            pieces = window.get(offset, offset + size)
        return b"".join(
            piece[max(0, offset - first) : offset + size - first] for first, piece in pieces
        )

    def close(self) -> None:
        """Close the archives that are open."""
        self._files.close()
        self._streams.close()


def _extent(record: ImageRecord) -> tuple[int, int]:
    if record.offset is None or record.nbytes is None:
        raise ValueError(f"{record.id}: a tar record needs offset and nbytes")
    return record.offset, record.nbytes


def _open_stream(key: tuple[str, str]) -> ForwardWindow[bytes]:
    path, compression = key
    return ForwardWindow(lambda: decompress(path, compression), length=len, cost=len, limit=_WINDOW)
