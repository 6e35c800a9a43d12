"""Reads the headers of tar archives strictly, one member at a time, in bounded memory."""

from __future__ import annotations

import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from embedkit.sources.io import storage
from embedkit.sources.readers.compression import COMPRESSION_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HeaderDamageError", "LeanTar"]

_MAX_HEADER_BYTES = 2**20
"""Of one member: its header, its long names, its pax records and its map of holes."""
_MAX_CHAIN = 16
"""Headers before a member that only tell more of it, such as long names."""
_MAX_END_MARKS = 2**15
"""Zero blocks (512 bytes each) after which nothing more is expected."""


class HeaderDamageError(tarfile.ReadError):
    """A header can't be read; the data before it is complete."""


class _HeaderReader:
    """A file that gives a limited number of bytes while the headers of a member are parsed.

    Attributes:
        left: Bytes that may still be read; None where there is no limit.
        last: What was read last.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.left: int | None = None
        self.last = b""

    def read(self, size: int = -1, /) -> bytes:
        if self.left is not None:
            self.left -= size
            if size < 0 or self.left < 0:
                raise HeaderDamageError(f"headers of a member over {_MAX_HEADER_BYTES:,} bytes")
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _StrictInfo(tarfile.TarInfo):
    """Raises at a damaged header, where ``tarfile`` would take it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _StrictInfo:
        assert isinstance(tar, LeanTar)
        with tar.one_header():
            return super().fromtarfile(tar)


class LeanTar(tarfile.TarFile):
    """Reads on after an end mark, as ``tar -i``: concatenated archives have some.

    Each member is dropped once it is yielded, where ``TarFile`` would keep them all in memory.

    Args:
        stream: The archive, decompressed.

    Raises:
        HeaderDamageError: A header is damaged, has no end, or the end mark is missing.
    """

    tarinfo = _StrictInfo
    members: list[tarfile.TarInfo]

    def __init__(self, stream: IO[bytes]) -> None:
        self._reader = _HeaderReader(stream)
        self._depth = self._end_marks = 0
        super().__init__(
            fileobj=cast(IO[bytes], self._reader),
            ignore_zeros=True,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def next(self) -> tarfile.TarInfo | None:
        """Return the next member, or None at the end."""
        info = super().next()
        self.members.clear()
        return info

    @contextmanager
    def one_header(self) -> Iterator[None]:
        """Limit what parsing one header may read, and judge how it failed.

        ``tarfile`` parses the headers that follow a long name inside this one.
        """
        if self._depth == 0:
            self._reader.left = _MAX_HEADER_BYTES
        self._depth += 1
        try:
            if self._depth > _MAX_CHAIN:
                raise HeaderDamageError(f"over {_MAX_CHAIN} headers for one member")
            yield
            if sum(map(len, self.pax_headers.values())) > _MAX_HEADER_BYTES:
                raise HeaderDamageError(f"global headers over {_MAX_HEADER_BYTES:,} bytes")
            self._end_marks = 0
        except (OSError, tarfile.HeaderError, *COMPRESSION_ERRORS) as exc:
            if self._depth == 1 and self._is_end(exc):
                raise
            after = "after the archive's end, data that is no tar: " if self._end_marks else ""
            reason = storage.reason_of(exc)
            reason = "no end mark" if reason == "empty header" else reason
            raise HeaderDamageError(after + reason) from exc
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._reader.left = None

    def _is_end(self, error: Exception) -> bool:
        """Tell whether a header is an end mark, or the end of the file after one."""
        kind = type(error).__name__  # these classes aren't in the module's public names
        if kind == "EOFHeaderError":
            self._end_marks += 1
            self.ignore_zeros = self._end_marks < _MAX_END_MARKS
            return True
        is_short = kind in ("EmptyHeaderError", "TruncatedHeaderError")
        return self._end_marks > 0 and is_short and not any(self._reader.last)
