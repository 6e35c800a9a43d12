"""Lists local folders recursively, in the byte order of the names."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.io import storage
from embedkit.sources.naming import first_folder, is_hidden
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FolderSource"]

_Kind = Literal["file", "folder", "link"]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to walk.

    Attributes:
        name: Relative to the root.
        real: Its real path, where it lies outside the root; those are walked once.
    """

    name: str
    real: str | None = None


class FolderSource(Source):
    """Every regular file below a folder; hidden ones are skipped.

    Symbolic links to folders outside the root are followed, once each; those to folders inside it
    are not, as these are listed under their real names.

    Args:
        root: The folder's path, with which the ids begin.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def scan(self) -> Iterator[ImageRecord]:
        """List the files, depth first.

        Raises:
            SourceError: The root can't be listed.
        """
        walk = _Walk(self.root)
        stack = [walk.root_items()]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, _Folder):
                stack.append(walk.items(item))
            else:
                yield item


class _Walk:
    """One walk through a folder, which remembers where links have led."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._local = storage.local_path(root) or "."
        self._real_root = os.path.realpath(self._local)
        self._visited: set[str] = set()

    def root_items(self) -> Iterator[ImageRecord | _Folder]:
        try:
            names = _list(self._local)
        except OSError as exc:
            raise SourceError(
                f"{self._root}: folder can't be listed: {storage.reason_of(exc)}"
            ) from exc
        return self._known(_Folder(""), names)

    def items(self, folder: _Folder) -> Iterator[ImageRecord | _Folder]:
        try:
            names = _list(self._path(folder.name))
        except OSError as exc:
            problem = f"folder can't be listed: {storage.reason_of(exc)}"
            return iter([self._record(folder.name, problem)])
        return self._known(folder, names)

    def _path(self, name: str) -> str:
        return os.path.join(self._local, name)  # noqa: PTH118 - names that aren't UTF-8, and speed

    def _record(self, name: str, problem: str | None = None) -> ImageRecord:
        path = storage.join(self._root, name)
        return ImageRecord(id=path, path=path, label=first_folder(name), problem=problem)

    def _known(
        self, folder: _Folder, entries: list[tuple[str, _Kind]]
    ) -> Iterator[ImageRecord | _Folder]:
        for base, kind in entries:
            name = f"{folder.name}/{base}" if folder.name else base
            if kind == "file":
                yield self._record(name)
            elif kind == "link":
                yield from self._follow(name)
            elif folder.real is None:
                yield _Folder(name)
            else:
                yield from self._enter(name, f"{folder.real.rstrip('/')}/{base}")

    def _follow(self, name: str) -> Iterator[ImageRecord | _Folder]:
        """Yield what a symbolic link leads to."""
        path = self._path(name)
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError as exc:
            yield self._record(name, _link_problem(exc))
            return
        if stat.S_ISREG(mode):
            yield self._record(name)
        elif stat.S_ISDIR(mode):
            yield from self._enter(name, os.path.realpath(path))

    def _enter(self, name: str, real: str) -> Iterator[_Folder]:
        """Yield a folder that links lead to, unless it is or was walked anyway."""
        inside = real == self._real_root or real.startswith(self._real_root.rstrip("/") + "/")
        if not inside and real not in self._visited:
            self._visited.add(real)
            yield _Folder(name, real)


def _list(path: str) -> list[tuple[str, _Kind]]:
    """List a folder without what is hidden and what is no file, sorted by the names' bytes."""
    with os.scandir(path) as entries:
        found = [
            (entry.name, kind)
            for entry in entries
            if not is_hidden(entry.name) and (kind := _kind(entry)) is not None
        ]
    found.sort(key=lambda item: os.fsencode(item[0]))
    return found


def _kind(entry: os.DirEntry[str]) -> _Kind | None:
    """Tell what an entry is, mostly without asking the file system; None for FIFOs and devices."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "link" if entry.is_symlink() else None


def _link_problem(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "dangling symbolic link"
    if error.errno == errno.ELOOP:
        return "symbolic links in a circle"
    return storage.reason_of(error)
