"""Builds an index from stores, and resumes an interrupted build."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from embedkit.errors import IndexCorruptError, IndexFileError, StoreError
from embedkit.index.build_plan import make_plan
from embedkit.index.build_steps import IndexBuild
from embedkit.index.faiss_types import faiss_reason
from embedkit.index.file_io import HashingFile, writing_errors
from embedkit.index.manifest import MANIFEST
from embedkit.index.object_index import ObjectIndex
from embedkit.index.openmp import respect_cores
from embedkit.index.store_rows import DISTINCT_IDS, StoreRows
from embedkit.index.working_dir import PartialIndex
from embedkit.sources.io.transfer import refuse_unwritable
from embedkit.store.object_store import place_of
from embedkit.store.repeated_ids import refuse_repeated_ids
from embedkit.utils.atomic_write import remove_left_behind
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.urls import local_path, object_url

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedkit.distributed.cluster import RayCluster
    from embedkit.index.build_plan import Plan
    from embedkit.index.spec import IndexSpec

__all__ = ["begin_or_resume", "build_index", "discarding_failures"]


def build_index(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    spec: IndexSpec,
    *,
    overwrite: bool,
    cluster: RayCluster | None = None,
    work_dir: Path | None = None,
) -> Path | str:
    """Builds an index; see ``Index.build``."""
    output = local_path(output)
    respect_cores()
    refuse_other_ending(output, "an index")
    kind, *settings = _working_folder(output, cluster, work_dir)
    unlocked = kind(*settings)
    if not unlocked.folder.is_dir():
        unlocked.refuse_existing(overwrite=overwrite)
    with StoreRows.open(stores) as rows, kind.locked(*settings) as partial:
        remove_left_behind(partial.output)
        refuse_repeated_ids(rows.stores, DISTINCT_IDS)
        plan = make_plan(spec, rows, output)
        if not overwrite and _was_made(partial, plan):
            partial.clear()
            return object_url(output) or output
        partial.refuse_existing(overwrite=overwrite)
        begin_or_resume(partial, plan, overwrite=overwrite)
        with discarding_failures(partial):
            made = IndexBuild(partial, plan, rows, cluster).run()
            if made.index.ntotal != plan.count:
                raise RuntimeError(f"it holds {made.index.ntotal} of {plan.count} rows")
        with partial.new_index(overwrite=overwrite) as writer:
            manifest = made.write(writer)
            with HashingFile(writer.folder / MANIFEST) as file:
                file.write(manifest.to_json())
        partial.discard()
    return object_url(output) or output


def _working_folder(
    output: Path, cluster: RayCluster | None, work_dir: Path | None
) -> tuple[Any, ...]:
    """The class of the working folder, and what it is called with."""
    if (url := object_url(output)) is None:
        return PartialIndex, output
    refuse_unwritable(url)
    if cluster is not None and cluster.address != "local" and work_dir is None:
        raise ValueError(
            f"{url}: the workers of a cluster write its parts into work_dir: give a folder that "
            "all machines see"
        )
    return ObjectIndex, place_of(url, work_dir), url


def _was_made(partial: PartialIndex, plan: Plan) -> bool:
    """Whether the index of a plan is whole: a run was killed between its last step and tidying."""
    config = plan.to_config()
    if partial.plan() is None or partial.is_other(config):
        return False
    manifest = partial.manifest()
    return manifest is not None and partial.has_made(manifest, config)


def begin_or_resume(partial: PartialIndex, plan: Plan, *, overwrite: bool) -> None:
    """Begins a run with a plan, or resumes an interrupted run with the same plan.

    Raises:
        IndexFileError: There is an interrupted run with another plan, and ``overwrite`` isn't set.
    """
    config = json.loads(json.dumps(plan.to_config()))
    begun = partial.plan()
    if begun == config and not overwrite:
        return
    if begun is not None and partial.is_begun and not overwrite:
        differing = sorted(key for key in config if config[key] != begun.get(key))
        raise IndexFileError(
            f"{partial.folder}: holds an unfinished build of another index ({', '.join(differing)} "
            "differ); repeat the first settings, or start again with overwrite=True"
        )
    partial.clear()
    partial.freeze(config)


@contextmanager
def discarding_failures(partial: PartialIndex) -> Iterator[None]:
    """Keeps finished work if the disk is full, but discards it if resuming would fail again.

    Raises:
        ValueError: faiss can't build this index.
    """
    try:
        with writing_errors(partial.address):
            yield
    except (StoreError, IndexCorruptError, ValueError):
        partial.clear()
        raise
    except RuntimeError as exc:
        partial.clear()
        raise ValueError(
            f"{partial.address}: faiss can't build this index: {faiss_reason(exc)}"
        ) from exc
