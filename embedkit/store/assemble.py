"""Joins the unfinished folders of the parts of one plan: one store of their shards."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.sources.shard_plan import Plan
from embedkit.store.format import StoreCounts
from embedkit.store.manifest import MANIFEST, encode_manifest, read_manifest
from embedkit.store.parts import refuse_missing
from embedkit.store.reader import ShardFile, entry_of, refuse_damaged
from embedkit.store.working_dir import PartialStore
from embedkit.utils.atomic_write import atomic_folder, commit_bytes
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from embedkit.store.format import StoreMeta

__all__ = [
    "AssembledShards",
    "assembled_shards",
    "is_unfinished",
    "link_file",
    "link_folder",
    "refuse_other_plan",
    "unfinished_folder",
]

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


@dataclass(frozen=True, slots=True)
class AssembledShards:
    """All shards of one plan, in order, verified.

    Attributes:
        paths: Their files.
        first: A working folder of the plan.
        parts: How many processes were to share the work.
    """

    paths: list[Path]
    first: PartialStore
    parts: int


def assembled_shards(folders: Sequence[Path], stack: ExitStack) -> AssembledShards:
    """Finds all shards of one plan.

    Args:
        folders: Working folders; several may have the same shard.
        stack: Holds the folders' locks.

    Raises:
        StoreError: A shard is missing, or a folder belongs to another plan or holds no run.
        StoreLockedError: A folder is being written.
        StoreMismatchError: A folder has other settings.
        StoreCorruptError: A shard is damaged.
    """
    partials = [
        stack.enter_context(PartialStore.locked(folder.with_name(folder.stem)))
        for folder in folders
    ]
    found: dict[int, Path] = {}
    for partial in partials:
        refuse_other_plan(partials[0], partial)
        num_shards = _frozen(partial)[0].num_shards
        for number in {*range(num_shards)} - partial.missing(num_shards):
            found.setdefault(number, partial.shard_path(number))
    parts = max(partial.frozen_parts for partial in partials)
    refuse_missing({*range(num_shards)} - {*found}, num_shards, parts)
    paths = [found[number] for number in range(num_shards)]
    refuse_damaged(paths)
    return AssembledShards(paths, partials[0], parts)


def link_folder(paths: Sequence[Path], output: Path, *, overwrite: bool) -> StoreCounts:
    """Makes a sharded store of these shards: hard links, or copies on another disk.

    Returns:
        What it holds.

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
                link_file(path, link)
            numbered = track(links, "hashing", len(links), unit="shards")
            entries = [entry_of(link) for link in numbered]
            with closing(ShardFile(links[0])) as shard:
                commit_bytes(new / MANIFEST, encode_manifest(shard.meta, entries))
        return sum((entry.counts for entry in entries), StoreCounts(0, 0, 0))
    except OSError as exc:
        raise StoreError(f"{output}: can't be written: {exc.strerror or exc}") from exc


def link_file(path: Path, link: Path) -> None:
    """Gives a file a second name, or copies it."""
    try:
        os.link(path, link)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(path, link)


def refuse_other_plan(first: PartialStore, other: PartialStore) -> None:
    """Refuses two working folders that don't hold the same plan, with the same settings.

    Raises:
        StoreError: One belongs to another plan, or holds no run.
        StoreMismatchError: The settings differ.
    """
    plan, meta = _frozen(first)
    its_plan, its_meta = _frozen(other)
    if (its_plan.digest, its_plan.shard_rows) != (plan.digest, plan.shard_rows):
        raise StoreError(
            f"{other.folder}: is of another plan than {first.folder}; extract all parts from the "
            "same images, with the same shard_rows"
        )
    differences = meta.differences(its_meta, purpose="merge")
    if [*meta.omitted_columns] != [*its_meta.omitted_columns]:  # shards are linked as they are
        differences["omitted_columns"] = meta.omitted_columns, its_meta.omitted_columns
    if differences:
        raise StoreMismatchError(str(other.folder), differences)


def _frozen(partial: PartialStore) -> tuple[Plan, StoreMeta]:
    plan, frozen = Plan.open(partial.folder), partial.frozen_meta()
    if plan is None or frozen is None:
        raise StoreError(f"{partial.folder}: holds no extraction that was begun")
    return plan, frozen[0]
