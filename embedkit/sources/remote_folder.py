"""Folders behind URLs: buckets, other fsspec storage, and index pages of web servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.io import storage
from embedkit.sources.naming import archive_suffix, first_folder, is_hidden
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.sources.io.remote import Entry

__all__ = ["DatasetRepository", "RemoteFolderSource"]


class RemoteFolderSource(Source):
    """Every file below a URL; hidden ones are skipped.

    Args:
        root: The folder's URL, with which the ids begin.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def scan(self) -> Iterator[ImageRecord]:
        """List the files, depth first, in the order of the names' bytes.

        Raises:
            SourceError: The root can't be listed.
            MissingExtraError: The URL's backend isn't installed.
        """
        try:
            stack = [iter(_list(self.root, ""))]
        except OSError as exc:
            reason = storage.reason_of(exc)
            raise SourceError(f"{self.root}: folder can't be listed: {reason}") from exc
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
                continue
            name, entry = item
            if not entry.is_folder:
                yield self._record(name, entry)
                continue
            try:
                stack.append(iter(_list(storage.join(self.root, name), name + "/")))
            except OSError as exc:
                problem = f"folder can't be listed: {storage.reason_of(exc)}"
                yield self._record(name, problem=problem)

    def _record(
        self, name: str, entry: Entry | None = None, problem: str | None = None
    ) -> ImageRecord:
        url = storage.join(self.root, name)
        label = first_folder(name)
        nbytes, etag = (entry.nbytes, entry.etag) if entry else (None, None)
        return ImageRecord(id=url, path=url, nbytes=nbytes, label=label, problem=problem, etag=etag)


class DatasetRepository(Source):
    """A dataset on the Hugging Face hub: its Parquet files and archives are opened.

    Args:
        root: ``hf://datasets/USER/NAME``, or a folder in it.
        open_entry: Opens a Parquet file or an archive.
    """

    def __init__(self, root: str, open_entry: Callable[[str], Source]) -> None:
        self._folder = RemoteFolderSource(root)
        self._open_entry = open_entry

    def scan(self) -> Iterator[ImageRecord]:
        """List the images, file by file; the errors are those of any remote folder."""
        for record in self._folder.scan():
            if record.problem is None and archive_suffix(record.path) is not None:
                yield from self._open_entry(record.path).scan()
            else:
                yield record


def _list(url: str, prefix: str) -> list[tuple[str, Entry]]:
    entries = storage.list_folder(url)
    return [(prefix + entry.name, entry) for entry in entries if not is_hidden(entry.name)]
