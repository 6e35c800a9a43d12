"""Lists of paths and URLs as a source, from a file or standard input."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, BinaryIO

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io import storage
from embedkit.sources.naming import is_url
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FileListSource", "StreamListSource", "split_entries"]

_BLOCK = 2**16
_MAX_ENTRY = 2**20


def split_entries(stream: BinaryIO) -> Iterator[str]:
    """Split a list into its entries, holding no more than a block of it.

    Entries end in a newline, or in a NUL where the first 64 KiB hold one. Between newlines, blank
    lines and lines that start with ``#`` are passed over; between NULs, only empty entries.

    Args:
        stream: The list's bytes.

    Yields:
        The entries; bytes that are not UTF-8 as surrogate escapes.

    Raises:
        SourceError: An entry has no end: this is no list.
    """
    block = stream.read(_BLOCK).removeprefix(b"\xef\xbb\xbf")
    separator = b"\0" if b"\0" in block else b"\n"
    rest = b""
    while block:
        *entries, rest = (rest + block).split(separator)
        if len(rest) > _MAX_ENTRY:
            raise SourceError(f"not a list of paths: an entry is longer than {_MAX_ENTRY} bytes")
        yield from _kept(entries, separator)
        block = stream.read(_BLOCK)
    yield from _kept([rest], separator)


def _kept(entries: list[bytes], separator: bytes) -> Iterator[str]:
    for entry in entries:
        if separator == b"\0":
            if entry:
                yield os.fsdecode(entry)
        elif entry.strip() and not entry.startswith(b"#"):
            yield os.fsdecode(entry.rstrip(b"\r"))


class _Entries:
    """Turns the entries of one list into records.

    Args:
        list_path: The list's own path, or None for a stream.
        open_entry: Opens an entry that isn't an image by its name.
    """

    def __init__(self, list_path: str | None, open_entry: Callable[[str], Source]) -> None:
        self._list_path = list_path
        self._open_entry = open_entry
        self._base: str | None = None if list_path is not None else ""

    def records(self, stream: BinaryIO) -> Iterator[ImageRecord]:
        for entry in split_entries(stream):
            path = self._resolve(entry)
            if has_image_name(path):
                yield ImageRecord(id=path, path=path)
            else:
                yield from self._opened(path)

    def _opened(self, path: str) -> Iterator[ImageRecord]:
        try:
            yield from self._open_entry(path).scan()
        except SourceError as exc:
            # One bad line must not end a list of millions.
            yield ImageRecord(id=path, path=path, problem=str(exc))

    def _resolve(self, entry: str) -> str:
        if is_url(entry) or entry.startswith("/"):
            return entry
        if self._base is None:
            self._base = self._find_base(entry)
        return storage.join(self._base, entry) if self._base else entry

    def _find_base(self, entry: str) -> str:
        """Find the base folder of relative entries, from the first one."""
        folder = posixpath.dirname(self._list_path or "")
        is_relative = bool(folder) and not _exists(entry) and _exists(storage.join(folder, entry))
        return folder if is_relative else ""


def _exists(path: str) -> bool:
    try:
        return storage.file_type(path) is not None
    except OSError:
        return False


class FileListSource(Source):
    """A file that lists images, archives and folders.

    Args:
        path: The list's path or URL.
        open_entry: Opens an entry that isn't an image by its name.
    """

    def __init__(self, path: str, open_entry: Callable[[str], Source]) -> None:
        self.path = path
        self._open_entry = open_entry

    def scan(self) -> Iterator[ImageRecord]:
        """List what the entries name, in their order.

        Raises:
            SourceError: The list can't be read.
        """
        entries = _Entries(self.path, self._open_entry)
        try:
            stream = storage.open_random(self.path)
        except OSError as exc:
            raise SourceError(f"{self.path}: {storage.reason_of(exc)}") from exc
        with stream:
            yield from entries.records(stream)


class StreamListSource(Source):
    """A list on standard input, which can be read only once.

    Args:
        stream: Its bytes.
        open_entry: Opens an entry that isn't an image by its name.
    """

    def __init__(self, stream: BinaryIO, open_entry: Callable[[str], Source]) -> None:
        self._stream: BinaryIO | None = stream
        self._open_entry = open_entry

    def scan(self) -> Iterator[ImageRecord]:
        """List what the entries name, in their order.

        Raises:
            SourceError: The stream was read before.
        """
        stream, self._stream = self._stream, None
        if stream is None:
            raise SourceError("-: standard input can be listed only once")
        yield from _Entries(None, self._open_entry).records(stream)
