"""Reads members of zip archives, never more bytes than the directory declares."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

from embedkit.sources.io import storage
from embedkit.sources.readers.file import KindReader, decode_errors
from embedkit.sources.readers.handle_cache import HandleCache
from embedkit.sources.zip import ZIP_ERRORS, member_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.types import ImageRecord

__all__ = ["ZipReader"]

_MAX_ARCHIVES = 8
_ENCRYPTED_FLAG = 0x1
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL_READ = 4096


class _OpenZip:
    """A zip archive and the file below it, which ``ZipFile`` doesn't close itself."""

    def __init__(self, path: str) -> None:
        with ExitStack() as stack:
            raw = stack.enter_context(storage.open_random(path))
            self.archive = stack.enter_context(zipfile.ZipFile(raw))
            self.infos = self.archive.infolist()
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


class ZipReader(KindReader):
    """Reads members of zip archives by their place in the archive's directory.

    Args:
        max_bytes: Larger members are refused before they are inflated.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._archives: HandleCache[str, _OpenZip] = HandleCache(
            _OpenZip, _OpenZip.close, _MAX_ARCHIVES
        )

    def read(self, record: ImageRecord) -> bytes:
        """Return the member's bytes."""
        with self._member(record) as (info, stream):
            data = _read(stream, info, info.file_size)
            if len(data) != info.file_size:
                raise ValueError(f"holds {len(data)} bytes, the archive states {info.file_size}")
            return data

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the member's first ``n`` bytes."""
        with self._member(record) as (info, stream):
            return _read(stream, info, min(n, info.file_size))

    @contextmanager
    def _member(self, record: ImageRecord) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
        with (
            decode_errors(record, *ZIP_ERRORS, zlib.error, lzma.LZMAError),
            self._archives.lease(record.path) as opened,
        ):
            info = _find(record, opened.infos)
            storage.check_size(info.file_size, self.max_bytes)
            with opened.archive.open(info) as stream:
                yield info, stream

    def close(self) -> None:
        """Close the archives that are open."""
        self._archives.close()


def _find(record: ImageRecord, infos: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Find the member of a record, and refuse what can't be read."""
    index = int(record.key or -1)
    info = infos[index] if 0 <= index < len(infos) else None
    if info is None or f"{record.path}#{member_name(info)}" not in record.id:
        raise ValueError("the archive has changed since it was listed")
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise ValueError("encrypted")
    return info


def _read(stream: IO[bytes], info: zipfile.ZipInfo, size: int) -> bytes:
    """Read ``size`` bytes; bzip2 and lzma in small steps, as one step may inflate without bound."""
    if info.compress_type in _BOUNDED:
        return stream.read(size)
    parts: list[bytes] = []
    while size and (part := stream.read(min(size, _SMALL_READ))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
