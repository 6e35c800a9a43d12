"""Finds the images of a store by their ids, as far as they still exist."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError
from embedkit.sources.naming import is_url, kind_of_name
from embedkit.sources.open import open_source
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "archive_of",
    "find_originals",
    "folder_of",
    "is_one_file",
    "place_of",
    "places_of",
    "with_prefix_of",
]

_PREFIXED = re.compile(r"(.*)/<(.+)>", re.DOTALL)


def place_of(image_id: str, roots: Sequence[Path]) -> str:
    """The path or URL of an id: below the first of the folders where it exists.

    Args:
        image_id: An id, or the archive in one.
        roots: The folders that relative ids may start from, at least one; ``FOLDER/<PREFIX>``
            is a folder that the ids of a store with a prefix start from.
    """
    if is_url(image_id):
        return image_id
    places = list(dict.fromkeys(_below(root, image_id) for root in roots))
    if len(places) == 1:
        return places[0]
    return next((place for place in places if is_url(place) or _exists(place)), places[0])


def places_of(image_id: str, roots: Sequence[Path]) -> list[str]:
    """Where an id exists, below each of the folders: several places if these are several files.

    Args:
        image_id: As ``place_of``'s.
        roots: As ``place_of``'s.
    """
    found: list[str] = []
    for place in dict.fromkeys(_below(root, image_id) for root in roots):
        if (is_url(place) or _exists(place)) and not any(is_one_file(place, p) for p in found):
            found.append(place)
    return found


def is_one_file(first: str, second: str) -> bool:
    """Whether two paths are one name in one folder, however the ways to it are linked.

    Hard links are several names: to remove one of them isn't to remove the other.
    """
    a, b = Path(first), Path(second)
    try:
        return a.name == b.name and a.parent.samefile(b.parent)
    except (OSError, ValueError):
        return False


def folder_of(place: str, image_id: str) -> Path:
    """The folder that an id starts from if a path is its place; an id's prefix doesn't count."""
    parts = Path(place).parts
    pairs = zip(reversed(parts), reversed(Path(image_id).parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return Path(*parts[: len(parts) - shared])


def with_prefix_of(root: str | os.PathLike[str], folder: Path) -> Path:
    """Another folder in the place of a root's, whose ``<PREFIX>`` stays."""
    marked = _PREFIXED.fullmatch(os.fspath(root))
    return folder if marked is None else folder / f"<{marked[2]}>"


def _below(root: Path, image_id: str) -> str:
    """The path of an id below a folder, or below ``FOLDER/<PREFIX>`` without its prefix."""
    marked = _PREFIXED.fullmatch(str(root))
    if marked is None or not image_id.startswith(f"{marked[2]}/"):
        return str(root / image_id)
    rest = image_id[len(marked[2]) + 1 :]
    return rest if is_url(rest) else str(Path(marked[1] or "/", rest))


def find_originals(ids: Iterable[str], roots: Sequence[Path]) -> Iterator[tuple[str, ImageRecord]]:
    """Finds the records of ids: files by path, archive members by listing the archive.

    Missing members are left out; files aren't checked for existence.

    Args:
        ids: Ids of a store, without duplicates.
        roots: The folders that relative ids may start from.

    Returns:
        Ids and their records, the members of an archive in its own order.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for name in ids:
        archive = archive_of(name, roots)
        if archive is None:
            yield name, ImageRecord(id=name, path=place_of(name, roots))
        else:
            members[archive].add(name)
    for archive, names in members.items():
        yield from _find_members(archive, names, place_of(archive, roots))


def archive_of(image_id: str, roots: Sequence[Path]) -> str | None:
    """The archive that an id lies in; None for a file, which may have ``#`` in its name too."""
    marks = [place for place, letter in enumerate(image_id) if letter == "#"]
    prefixes = (image_id[:mark] for mark in marks)
    archive = next((p for p in prefixes if kind_of_name(p) in {"tar", "zip", "parquet"}), None)
    return None if archive is None or _exists(place_of(image_id, roots)) else archive


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _find_members(archive: str, names: set[str], prefix: str) -> Iterator[tuple[str, ImageRecord]]:
    left = {prefix + name[len(archive) :]: name for name in names}
    try:
        for record in open_source(prefix, labels="none").scan():
            if record.id in left:
                yield left.pop(record.id), record
            if not left:
                return
    except EmbedkitError:  # missing or damaged: the page shows the other images
        return
