"""Glob patterns as sources, such as ``photos/*/*.jpg`` and ``shards/**/*.tar``."""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.folder import FolderSource
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io import remote, storage
from embedkit.sources.naming import first_folder
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GlobSource", "has_magic"]


def has_magic(path: str) -> bool:
    """Tell whether a path or URL is a pattern; web addresses may hold a plain ``?``."""
    return any(char in path for char in ("*[" if path.startswith("http") else "*?["))


class GlobSource(Source):
    """What matches a pattern, sorted by bytes: images, archives and folders.

    Args:
        pattern: ``*``, ``?`` and ``[…]`` match within a name, ``**`` any number of folders.
        open_entry: Opens a match.
    """

    def __init__(self, pattern: str, open_entry: Callable[[str], Source]) -> None:
        self.pattern = pattern
        self._open_entry = open_entry
        local = storage.local_path(pattern)
        parts = (pattern if local is None else storage.local_url(local, pattern)).split("/")
        literal = next(i for i, part in enumerate(parts) if has_magic(part))
        self._base = "/".join(parts[:literal]) or ("/" if literal else "")
        self._parts = parts[literal:]
        self._prefix = storage.join(self._base, "") if self._base else ""

    def scan(self) -> Iterator[ImageRecord]:
        """List the matches; an image's label is its first folder below the pattern's fixed part.

        Raises:
            SourceError: Nothing matches, or the storage can't be listed.
        """
        found = False
        for match in self._matches():
            found = True
            yield from self._opened(match)
        if not found:
            raise SourceError(f"{self.pattern}: no file matches this pattern")

    def _opened(self, match: ImageRecord) -> Iterator[ImageRecord]:
        if match.problem is not None:
            yield match
            return
        source = self._open_entry(match.path)
        for record in source.scan():
            whole = record.kind == "file"
            label = first_folder(record.id.removeprefix(self._prefix)) if whole else record.label
            yield replace(record, label=label)

    def _matches(self) -> Iterator[ImageRecord]:
        if storage.local_path(self.pattern) is None:
            return self._remote_matches()
        return self._deep_matches() if "**" in self._parts else self._flat_matches()

    def _remote_matches(self) -> Iterator[ImageRecord]:
        try:
            urls = remote.glob_urls(self.pattern)
        except OSError as exc:
            raise SourceError(f"{self.pattern}: {storage.reason_of(exc)}") from exc
        for url in urls:
            yield ImageRecord(id=url, path=url)

    def _deep_matches(self) -> Iterator[ImageRecord]:
        # Not glob's own "**": it walks in circles where symbolic links do.
        for record in FolderSource(self._base).scan():
            name = record.id.removeprefix(self._prefix)
            if record.problem or _match(name.split("/"), self._parts):
                yield record

    def _flat_matches(self) -> Iterator[ImageRecord]:
        local = storage.local_path(self.pattern) or ""
        for found in sorted(glob.glob(local), key=os.fsencode):  # noqa: PTH207 - keeps the names
            path = storage.local_url(found, like=self.pattern)
            if has_image_name(path) or _is_listed(path):
                yield ImageRecord(id=path, path=path)


def _is_listed(path: str) -> bool:
    try:
        return storage.file_type(path) != "other"
    except OSError:
        return True


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    if not parts or not fnmatchcase(parts[0], patterns[0]):
        return False
    return _match(parts[1:], patterns[1:])
