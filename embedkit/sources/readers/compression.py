"""Detects the compression of a file and reads its content sequentially."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO

from embedkit.sources.io import storage

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["COMPRESSION_ERRORS", "ForwardFile", "compression_of", "decompress"]

COMPRESSION_ERRORS = (EOFError, zlib.error, lzma.LZMAError)
"""Exceptions that damaged streams raise, besides ``OSError``."""

_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
_CHUNK = 2**20


def compression_of(path: str) -> str | None:
    """Tell how a file is compressed, from its first bytes; None for not at all.

    Raises:
        OSError: It can't be read.
    """
    head = storage.read_range(path, 0, 8)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def decompress(path: str, compression: str) -> Generator[bytes, None, None]:
    """Read a compressed file from its beginning.

    Args:
        path: A path or URL.
        compression: As :func:`compression_of` tells it.

    Yields:
        Pieces of at most 1 MiB; all that comes before a damaged place, too.

    Raises:
        OSError: It can't be read.
        EOFError: It is cut off.
        zlib.error: It is damaged; so does ``lzma.LZMAError``.
        ValueError: There is no such compression.
    """
    with storage.open_random(path) as raw, closing(_open(raw, compression)) as stream:
        while chunk := stream.read1(_CHUNK):
            yield chunk


def _open(raw: BinaryIO, compression: str) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if compression == "gz":
        return gzip.GzipFile(fileobj=raw)
    if compression == "bz2":
        return bz2.BZ2File(raw)
    if compression == "xz":
        return lzma.LZMAFile(raw)
    raise ValueError(f"unknown compression {compression!r}")


class ForwardFile(io.RawIOBase):
    """Makes a file of a stream of pieces: it can be read and skipped forward, not back."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._position

    def _take(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._position += len(taken)
        return taken

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Skip forward to ``offset``, or to the end where that comes first.

        Raises:
            ValueError: It would go back.
        """
        if whence != io.SEEK_SET or offset < self._position:
            raise ValueError("this stream only goes forward")
        while self._position < offset and self._take(offset - self._position):
            pass
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end; -1 for all that is left."""
        parts: list[memoryview] = []
        while size and (part := self._take(size if size >= 0 else _CHUNK)):
            parts.append(part)
            size = size - len(part) if size > 0 else size
        return b"".join(parts)

    def close(self) -> None:
        """End the stream."""
        self._pieces.close()
        super().close()
