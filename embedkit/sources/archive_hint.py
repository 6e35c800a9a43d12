"""Says how to read the archives and tables that a folder holds."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import TYPE_CHECKING

from embedkit.sources.naming import archive_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.types import ImageRecord

__all__ = ["archive_hint"]


def archive_hint(records: Iterable[ImageRecord]) -> str | None:
    """Name the patterns that open the archives and tables among listed files.

    Args:
        records: What a source listed.

    Returns:
        One line; None where there are none.
    """
    counts: dict[str, int] = defaultdict(int)
    folders: dict[str, set[str]] = defaultdict(set)
    for record in records:
        suffix = archive_suffix(record.path) if record.kind == "file" else None
        if suffix is not None:
            counts[suffix] += 1
            folders[suffix].add(posixpath.dirname(record.path))
    if not counts:
        return None
    found = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.items())
    patterns = ", ".join(f"'{_below(folders[suffix])}*{suffix}'" for suffix in counts)
    return f"a folder's archives ({found}) are read where they are named: give {patterns}"


def _below(folders: set[str]) -> str:
    """Return what a pattern for files in these folders begins with."""
    if len(folders) == 1:
        return posixpath.join(*folders, "")
    mixed = len({folder.startswith("/") for folder in folders}) > 1
    common = "" if mixed else posixpath.commonpath(folders)
    return posixpath.join(common, "**", "")
