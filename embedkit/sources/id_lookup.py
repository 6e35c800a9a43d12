"""Finds the images of a store by their ids, as far as they still exist."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError
from embedkit.sources.naming import is_url, kind_of_name
from embedkit.sources.open import open_source
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["archive_of", "find_originals"]


def find_originals(ids: Iterable[str], root: Path) -> Iterator[tuple[str, ImageRecord]]:
    """Finds the records of ids: files by path, archive members by listing the archive.

    Missing members are left out; files aren't checked for existence.

    Args:
        ids: Ids of a store, without duplicates.
        root: The folder that relative ids are below.

    Returns:
        Ids and their records, the members of an archive in its own order.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for name in ids:
        archive = archive_of(name, root)
        if archive is None:
            yield name, ImageRecord(id=name, path=_below(root, name))
        else:
            members[archive].add(name)
    for archive, names in members.items():
        yield from _find_members(archive, names, root)


def archive_of(image_id: str, root: Path) -> str | None:
    """The archive that an id lies in; None for a file, which may have ``#`` in its name too."""
    marks = [place for place, letter in enumerate(image_id) if letter == "#"]
    prefixes = (image_id[:mark] for mark in marks)
    archive = next((p for p in prefixes if kind_of_name(p) in {"tar", "zip", "parquet"}), None)
    return None if archive is None or _exists(_below(root, image_id)) else archive


def _below(root: Path, name: str) -> str:
    return name if is_url(name) else str(root / name)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _find_members(archive: str, names: set[str], root: Path) -> Iterator[tuple[str, ImageRecord]]:
    prefix = _below(root, archive)
    left = {prefix + name[len(archive) :]: name for name in names}
    try:
        for record in open_source(prefix, labels="none").scan():
            if record.id in left:
                yield left.pop(record.id), record
            if not left:
                return
    except EmbedkitError:  # missing or damaged: the page shows the other images
        return
