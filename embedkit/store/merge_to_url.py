"""Merged stores that are written to an object store: made on this machine, then uploaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.store.assemble import link_file, refuse_other_plan
from embedkit.store.format import StoreCounts
from embedkit.store.manifest import read_manifest
from embedkit.store.object_cache import find
from embedkit.store.object_store import ObjectFile, ObjectFolder, place_of
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.store.assemble import AssembledShards

__all__ = ["uploaded_file", "uploaded_folder"]

_MERGED = "whole.h5"
_PLAN = ("plan.jsonl", "plan.json")
_NOTHING = StoreCounts(0, 0, 0)


@contextmanager
def uploaded_file(url: str, work_dir: Path | None, *, overwrite: bool) -> Iterator[Path]:
    """A file to write a store to, which is uploaded at the end of the block and removed here.

    Args:
        url: Where the store appears.
        work_dir: As `place_of`'s.
        overwrite: Whether a store that is there is replaced.

    Raises:
        StoreLockedError: Another process of this machine is writing there.
        StoreError: A store is there, or has been written there while the block ran; or something
            else is, or it can't be written.
    """
    with ObjectFile.locked(place_of(url, work_dir), url) as partial:
        partial.check_name()
        _refuse_existing(partial, overwrite=overwrite)
        path = partial.path(_MERGED)
        try:
            yield path
            partial.put(path, replace=overwrite)
        finally:
            path.unlink(missing_ok=True)


def uploaded_folder(
    shards: AssembledShards, url: str, work_dir: Path | None, *, overwrite: bool
) -> StoreCounts:
    """Makes a sharded store of the shards of one plan, as an extraction to that URL does.

    A killed run is resumed, by this or by the extraction itself.

    Returns:
        What it holds.

    Raises:
        StoreLockedError: Another process of this machine is writing there.
        StoreError: A store is there, or an unfinished one of another plan; or it can't be written.
    """
    with ObjectFolder.locked(place_of(url, work_dir), url) as partial:
        if not overwrite and (counts := _made(partial)) is not None:
            partial.forget()  # killed between the store's last step and its tidying up
            return counts
        _refuse_existing(partial, overwrite=overwrite)
        if overwrite:
            partial.forget()
        if partial.is_begun:
            refuse_other_plan(shards.first, partial)
        else:
            _begin(partial, shards)
        partial.refresh()
        numbered = enumerate(track(shards.paths, "uploading", unit="shards"))
        counts = sum((_send(partial, *one) for one in numbered), _NOTHING)
        partial.finish(len(shards.paths), sharded=True)
    return counts


def _made(partial: ObjectFolder) -> StoreCounts | None:
    """What the store holds, if it is there and the run of the folder has made it."""
    found, frozen = find(partial.url), partial.frozen_meta()
    if found is None or frozen is None:
        return None
    meta, entries = read_manifest(found)
    if (meta.plan_hash, meta.generation) != (frozen[0].plan_hash, 0):
        return None
    return sum((entry.counts for entry in entries), _NOTHING)


def _refuse_existing(partial: ObjectFile | ObjectFolder, *, overwrite: bool) -> None:
    if overwrite:
        partial.check_replaceable()
    elif partial.exists():
        raise StoreError(f"{partial.url}: exists already; overwrite=True replaces it")


def _begin(partial: ObjectFolder, shards: AssembledShards) -> None:
    for name in _PLAN:
        link_file(shards.first.path(name), partial.path(name))
    frozen = shards.first.frozen_meta()
    assert frozen is not None, "its plan was compared"
    partial.freeze_meta(*frozen, parts=shards.parts)


def _send(partial: ObjectFolder, number: int, path: Path) -> StoreCounts:
    """Uploads a shard, unless it is there; gives what it holds."""
    counts = partial.finished_counts(number)
    if counts is None:
        link_file(path, partial.shard_path(number))
        counts = partial.finished_counts(number)
        assert counts is not None, "it was uploaded"
    return counts
