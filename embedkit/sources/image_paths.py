"""Finds the files that the rows of a table name."""

from __future__ import annotations

import posixpath

from embedkit.sources.io import storage
from embedkit.sources.naming import is_url

__all__ = ["ImagePaths"]

_PROBLEM = "no bytes, and no such file: "


class ImagePaths:
    """Resolves the paths of one table: relative to its folder, the folder above, or the current.

    The first path that leads to a file decides for all.

    Args:
        table: The table's path or URL; None where it is no file.
        image_root: The folder that paths are relative to; None looks for it.
    """

    def __init__(self, table: str | None, image_root: str | None) -> None:
        self._bases = [image_root] if image_root is not None else _bases(table)
        self._base = image_root

    def resolve(self, path: str) -> str | None:
        """Return where a file lies; None where it isn't found."""
        if is_url(path) or path.startswith("/"):
            return path
        if self._base is None:
            places = (base for base in self._bases if storage.exists(_join(base, path)))
            self._base = next(places, None)
        return None if self._base is None else _join(self._base, path)

    def problem(self, path: str) -> str:
        """Say that a file isn't found, and where it was looked for."""
        looked = ", ".join(base or "the current folder" for base in self._bases)
        return f"{_PROBLEM}{path} (in {looked}); image_root=FOLDER says where the images are"


def _bases(table: str | None) -> list[str]:
    if table is None:
        return [""]
    folder = posixpath.dirname(table)
    above = posixpath.dirname(folder) if folder else ".."
    return list(dict.fromkeys((folder, above, "")))


def _join(base: str, path: str) -> str:
    return storage.join(base, path) if base else path
