"""Verifies every checksum of a store."""

from __future__ import annotations

import hashlib
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.store.manifest import read_manifest
from embedkit.store.object_cache import fetched_again, find
from embedkit.store.reader import ShardFile, shard_problems
from embedkit.utils.progress import reporting, silent, track
from embedkit.utils.urls import display_name

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.store.format import StoreMeta
    from embedkit.store.manifest import ShardEntry
    from embedkit.utils.progress import ProgressCallback

__all__ = ["verify"]


def verify(path: str | os.PathLike[str], *, progress: bool | ProgressCallback = False) -> list[str]:
    """Checks counts, shapes, finiteness, every checksum and every byte of a store.

    Args:
        path: A shard file or a folder of shards, or a URL of one.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        One line for each problem, beginning with the file's name; empty if all is well. What
        keeps the store from being opened is a problem as well.
    """
    with reporting(progress):
        try:
            found = find(path)
            if found is None:
                return [f"{display_name(path)}: no such file, folder or bucket"]
            return list(_folder_problems(found) if found.is_dir() else _file_problems(found))
        except StoreError as exc:
            return [str(exc)]


def _file_problems(path: Path) -> Iterator[str]:
    return (f"{path}: {problem}" for problem in shard_problems(path))


def _folder_problems(path: Path) -> Iterator[str]:
    meta, shards = read_manifest(path)
    for entry in track(shards, "verifying", len(shards), unit="shards"):
        with silent() if len(shards) > 1 else nullcontext():
            found = list(_shard_problems(path / entry.name, meta, entry))
        yield from found


def _shard_problems(path: Path, meta: StoreMeta, entry: ShardEntry) -> Iterator[str]:
    try:
        found = list(_file_problems(fetched_again(path, entry.sha256)))
    except StoreError as exc:  # of a URL
        found = [str(exc)]
    yield from found or _differences(path, meta, entry)


def _differences(path: Path, meta: StoreMeta, entry: ShardEntry) -> Iterator[str]:
    """Differences between an intact shard and the manifest."""
    with closing(ShardFile(path)) as shard:
        if meta.to_config() != shard.meta.to_config():
            found = meta.differences(
                shard.meta, purpose="updated" if meta.generation else "identical"
            )
            differences = ", ".join(found) or "names of settings"
            if found or not meta.generation:
                yield f"{path}: differs from the manifest ({differences})"
        if shard.counts != entry.counts:
            yield f"{path}: its counts aren't those of the manifest"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            yield f"{path}: its SHA-256 isn't the manifest's"
