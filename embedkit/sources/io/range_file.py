"""A remote file that is read by range requests, through fsspec's read-ahead cache."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_ranges"]

_READ_AHEAD = 2**20
_BUFFER = 2**16
"""The cache is in Python: small reads, such as a tar's headers, are served before it."""


class _RangeFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    def __init__(self, fetch: Callable[[int, int], bytes], **options: Any) -> None:
        super().__init__(**options)
        self._fetch = fetch

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._fetch(start, end)


def open_ranges(
    filesystem: Any, path: str, size: int, fetch: Callable[[int, int], bytes]
) -> BinaryIO:
    """Open a remote file for reading with seeks; each request also fetches the next 1 MiB.

    Args:
        filesystem: fsspec's file system.
        path: The path in it.
        size: The file's size, bytes.
        fetch: Reads the bytes from one position to another; its errors are raised.
    """
    file = _RangeFile(
        fetch,
        fs=filesystem,
        path=path,
        mode="rb",
        block_size=_READ_AHEAD,
        cache_type="readahead",
        size=size,
    )
    return io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)
