"""What a file name implies: kind of source, hidden or not, label folder; and unique ids."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from embedkit.sources.image_suffixes import has_image_name

__all__ = [
    "UniqueNames",
    "archive_suffix",
    "first_folder",
    "is_hidden",
    "is_url",
    "kind_of_name",
    "with_slashes",
]

_LONG_NAME = 200
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_KINDS: tuple[tuple[tuple[str, ...], Literal["tar", "zip", "parquet", "list"]], ...] = (
    ((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
    ((".zip",), "zip"),
    ((".parquet",), "parquet"),
    ((".txt", ".lst", ".list", ".csv", ".tsv"), "list"),
)


def is_url(path: str) -> bool:
    """Tell whether ``path`` has a scheme, as in ``s3://bucket/key``."""
    return _URL.match(path) is not None


def _file_part(path: str) -> str:
    """Leave out what follows the path in a web address (``?size=big#top``), in small letters."""
    lower = path.lower()
    if lower.startswith(("http://", "https://")):
        lower = re.split(r"[?#]", lower, maxsplit=1)[0]
    return lower


def kind_of_name(path: str) -> Literal["image", "tar", "zip", "parquet", "list"] | None:
    """Tell what a name's ending says about the file; None where it says nothing."""
    name = _file_part(path)
    for suffixes, kind in _KINDS:
        if name.endswith(suffixes):
            return kind
    return "image" if has_image_name(path) else None


def archive_suffix(path: str) -> str | None:
    """Return the suffix by which a file is an archive or a Parquet file; None where it is none."""
    name = _file_part(path)
    suffixes = (suffix for group, kind in _KINDS if kind != "list" for suffix in group)
    return next((suffix for suffix in suffixes if name.endswith(suffix)), None)


def _folders_and_name(member: str) -> list[str]:
    return [part for part in member.split("/") if part not in ("", ".", "..")]


def is_hidden(member: str) -> bool:
    """Tell whether a relative path lies in, or is, a hidden file or folder.

    Hidden are names with a leading dot and the ``__MACOSX`` folders that macOS adds to archives.
    """
    return any(part[0] == "." or part == "__MACOSX" for part in _folders_and_name(member))


def with_slashes(member: str) -> str:
    r"""Return a zip member's name with ``/`` for ``\``, which some programs write on Windows."""
    return member if "/" in member else member.replace("\\", "/")


def first_folder(member: str) -> str | None:
    """Return the first folder of a relative path, which is its label; None where there is none."""
    parts = _folders_and_name(member)
    return parts[0] if len(parts) > 1 else None


class UniqueNames:
    """Keeps equal names of one archive apart: the second ``a`` becomes ``a@2``, then ``a@3``."""

    def __init__(self) -> None:
        self._seen: set[str | bytes] = set()
        # Only names that do come twice are counted: an archive of millions mostly has none.
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> str:
        """Return ``name``, or ``name@N`` where it was added before."""
        unique = name
        while _short(unique) in self._seen:
            self._counts[name] = self._counts.get(name, 1) + 1
            unique = f"{name}@{self._counts[name]}"
        self._seen.add(_short(unique))
        return unique


def _short(name: str) -> str | bytes:
    """Return what stands for a name: a hostile archive may have long ones by the million."""
    if len(name) <= _LONG_NAME:
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
