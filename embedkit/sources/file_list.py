"""Lists of paths and URLs as a source, from a file or standard input."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io import storage
from embedkit.sources.list_entries import split_entries
from embedkit.sources.list_format import ListColumns, ListItem, parse_entries
from embedkit.sources.naming import is_url
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FileListSource", "ListOptions", "StreamListSource"]


@dataclass(frozen=True, slots=True)
class ListOptions:
    """How lists are read.

    Attributes:
        open_entry: Opens an entry that isn't an image by its name.
        columns: The columns of a CSV list.
        null: Whether entries end in NUL; False finds out.
    """

    open_entry: Callable[[str], Source]
    columns: ListColumns = field(default_factory=ListColumns)
    null: bool = False


class _Items:
    """Turns the items of one list into records.

    Args:
        path: The list's own path, or None for a stream.
        options: How it is read.
    """

    def __init__(self, path: str | None, options: ListOptions) -> None:
        self._path = path
        self._options = options
        self._base: str | None = None if path is not None else ""

    def records(self, stream: BinaryIO) -> Iterator[ImageRecord]:
        where = self._path or "-"
        found = split_entries(stream, where, null=self._options.null)
        items: Iterator[ListItem] = map(ListItem, found.entries)
        if not found.null:
            items = parse_entries(found.entries, where, self._options.columns, self._exists)
        for item in items:
            yield from self._records_of(item)

    def _records_of(self, item: ListItem) -> Iterator[ImageRecord]:
        path = self._resolve(item.path)
        if item.problem is not None:
            yield ImageRecord(id=path, path=path, problem=item.problem)
        elif has_image_name(path):
            yield ImageRecord(id=path, path=path, label=item.label)
        elif not item.path.strip("./\\ \t\r\n"):
            yield ImageRecord(id=path, path=path, problem="names no image: '.', '..' or '/'")
        else:
            for record in self._opened(path):
                yield replace(record, label=item.label) if item.label is not None else record

    def _opened(self, path: str) -> Iterator[ImageRecord]:
        try:
            yield from self._options.open_entry(path).scan()
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
        folder = posixpath.dirname(self._path or "")
        is_relative = bool(folder) and not storage.exists(entry)
        return folder if is_relative and storage.exists(storage.join(folder, entry)) else ""

    def _exists(self, entry: str) -> bool:
        folder = posixpath.dirname(self._path or "")
        beside = bool(folder) and not is_url(entry)
        return storage.exists(entry) or (beside and storage.exists(storage.join(folder, entry)))


class FileListSource(Source):
    """A file that lists images, archives and folders.

    Args:
        path: The list's path or URL.
        options: How it is read.
    """

    def __init__(self, path: str, options: ListOptions) -> None:
        self.path = path
        self._options = options

    def scan(self) -> Iterator[ImageRecord]:
        """List what the entries name, in their order.

        Raises:
            SourceError: The list can't be read, or it isn't clear what it holds.
        """
        try:
            stream = storage.open_random(self.path)
        except OSError as exc:
            raise SourceError(f"{self.path}: {storage.reason_of(exc)}") from exc
        with stream:
            yield from _Items(self.path, self._options).records(stream)


class StreamListSource(Source):
    """A list on standard input, which can be read only once.

    Args:
        stream: Its bytes.
        options: How it is read.
    """

    def __init__(self, stream: BinaryIO, options: ListOptions) -> None:
        self._stream: BinaryIO | None = stream
        self._options = options

    def scan(self) -> Iterator[ImageRecord]:
        """List what the entries name, in their order.

        Raises:
            SourceError: The stream was read before, or it isn't clear what it holds.
        """
        stream, self._stream = self._stream, None
        if stream is None:
            raise SourceError("-: standard input can be listed only once")
        yield from _Items(None, self._options).records(stream)
