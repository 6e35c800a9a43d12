"""Verifies every file of an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError
from embedkit.index.generation import ContentReader
from embedkit.index.index import Index
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.store.object_cache import fetched_again, find

if TYPE_CHECKING:
    import os

__all__ = ["index_problems"]


def index_problems(path: str | os.PathLike[str]) -> list[str]:
    """Checks the hash of every file of an index, that they fit together, and its stores.

    Args:
        path: The index's folder.

    Returns:
        One line for each problem; empty if all is well. A store that has changed is a problem,
        and a missing one if the index reranks with it.
    """
    try:
        folder = find(path) or Path(path)
        manifest = IndexManifest.read(folder / MANIFEST)
    except EmbedkitError as exc:
        return [str(exc)]
    reader, problems = ContentReader(folder, manifest), []
    for role, entry in manifest.files.items():
        try:
            fetched_again(folder / entry.name, entry.sha256)
            reader.checked(role)
        except EmbedkitError as exc:
            problems.append(str(exc))
    if not problems:
        try:
            Index.open(folder, check="fast").close()
        except EmbedkitError as exc:
            problems.append(str(exc))
    return problems
