"""From ids back to the images' files, where these are still reachable."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError
from embedkit.records import ImageRecord
from embedkit.sources import open_source
from embedkit.sources.names import kind_of_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["find_originals"]


def find_originals(ids: Iterable[str]) -> Iterator[ImageRecord]:
    """Where the images of some ids lie: files by their path, members by listing their archive.

    What isn't found in its archive is left out; whether a file is there, its reader finds out.

    Args:
        ids: Of a store or an index, each once.

    Returns:
        Records whose ids are these, the members of an archive in its own order.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for name in ids:
        archive = _archive_of(name)
        if archive is None:
            yield ImageRecord(id=name, path=name)
        else:
            members[archive].add(name)
    for archive, wanted in members.items():
        yield from _members(archive, wanted)


def _archive_of(image_id: str) -> str | None:
    """The archive that an id lies in; a file may have ``#`` in its name too."""
    marks = [place for place, letter in enumerate(image_id) if letter == "#"]
    prefixes = (image_id[:mark] for mark in marks)
    archive = next((p for p in prefixes if kind_of_name(p) in {"tar", "zip", "parquet"}), None)
    return None if archive is None or _exists(image_id) else archive


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _members(archive: str, wanted: set[str]) -> Iterator[ImageRecord]:
    left = set(wanted)
    try:
        for record in open_source(archive, labels="none").scan():
            if record.id in left:
                left.discard(record.id)
                yield record
            if not left:
                return
    except EmbedkitError:  # it is gone; a page is as good as what it can show
        return
