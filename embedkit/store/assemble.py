"""Joins the unfinished folders of the parts of one plan: one store of their shards."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.sources.shard_plan import Plan
from embedkit.store.manifest import MANIFEST, encode_manifest, read_manifest
from embedkit.store.parts import refuse_missing
from embedkit.store.reader import ShardFile, entry_of, refuse_damaged
from embedkit.store.working_dir import PartialStore
from embedkit.utils.atomic_write import atomic_folder, commit_bytes
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.store.format import StoreMeta

__all__ = ["assembled_shards", "is_unfinished", "link_folder", "unfinished_folder"]

_PARTIAL = ".partial"


def unfinished_folder(path: Path) -> Path | None:
    """The working folder of an extraction that a path names, with or without its ending."""
    for folder in (path, path.with_name(path.name + _PARTIAL)):
        if folder.suffix == _PARTIAL and folder.is_dir() and not path.is_file():
            return folder if not (path / MANIFEST).exists() else None
    return None


def is_unfinished(path: Path) -> bool:
    """Whether a path names the working folder of an extraction."""
    return unfinished_folder(path) is not None


def assembled_shards(folders: Sequence[Path], stack: ExitStack) -> list[Path]:
    """The files of all shards of one plan, in order, verified.

    Args:
        folders: Working folders; several may have the same shard.
        stack: Holds the folders' locks.

    Raises:
        StoreError: A shard is missing, or a folder belongs to another plan or holds no run.
        StoreLockedError: A folder is being written.
        StoreMismatchError: A folder has other settings.
        StoreCorruptError: A shard is damaged.
    """
    first: tuple[Path, Plan, StoreMeta] | None = None
    found: dict[int, Path] = {}
    parts = 1
    for folder in folders:
        partial = stack.enter_context(PartialStore.locked(folder.with_name(folder.stem)))
        plan, meta = _frozen(partial)
        parts = max(parts, partial.frozen_parts)
        first = first or (folder, plan, meta)
        _refuse_other(first, folder, plan, meta)
        for number in {*range(plan.num_shards)} - partial.missing(plan.num_shards):
            found.setdefault(number, partial.shard_path(number))
    assert first is not None
    num_shards = first[1].num_shards
    refuse_missing({*range(num_shards)} - {*found}, num_shards, parts)
    paths = [found[number] for number in range(num_shards)]
    refuse_damaged(paths)
    return paths


def link_folder(paths: Sequence[Path], output: Path, *, overwrite: bool) -> None:
    """Makes a sharded store of these shards: hard links, or copies on another disk.

    Raises:
        StoreError: ``output`` exists, or can't be written.
    """
    if output.exists():
        if not overwrite:
            raise StoreError(f"{output}: exists already; overwrite=True replaces it")
        read_manifest(output)  # nothing but a store is replaced
    try:
        with atomic_folder(output, overwrite=overwrite) as new:
            links = [new / path.name for path in paths]
            for path, link in zip(paths, links, strict=True):
                _link(path, link)
            numbered = track(links, "hashing", len(links), unit="shards")
            entries = [entry_of(link) for link in numbered]
            with closing(ShardFile(links[0])) as shard:
                commit_bytes(new / MANIFEST, encode_manifest(shard.meta, entries))
    except OSError as exc:
        raise StoreError(f"{output}: can't be written: {exc.strerror or exc}") from exc


def _link(path: Path, link: Path) -> None:
    try:
        os.link(path, link)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(path, link)


def _frozen(partial: PartialStore) -> tuple[Plan, StoreMeta]:
    plan, frozen = Plan.open(partial.folder), partial.frozen_meta()
    if plan is None or frozen is None:
        raise StoreError(f"{partial.folder}: holds no extraction that was begun")
    return plan, frozen[0]


def _refuse_other(
    first: tuple[Path, Plan, StoreMeta], folder: Path, plan: Plan, meta: StoreMeta
) -> None:
    if (plan.digest, plan.shard_rows) != (first[1].digest, first[1].shard_rows):
        raise StoreError(
            f"{folder}: is of another plan than {first[0]}; extract all parts from the same "
            "images, with the same shard_rows"
        )
    if differences := first[2].differences(meta, purpose="merge"):
        raise StoreMismatchError(str(folder), differences)
