"""Builds an index from stores, and resumes an interrupted build."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import IndexCorruptError, IndexFileError, StoreError
from embedkit.index.build_plan import make_plan
from embedkit.index.build_steps import IndexBuild
from embedkit.index.faiss_types import faiss_reason
from embedkit.index.file_io import HashingFile, refuse_existing, writing_errors
from embedkit.index.generation import ContentWriter
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.openmp import respect_cores
from embedkit.index.store_rows import DISTINCT_IDS, StoreRows
from embedkit.index.working_dir import PartialIndex
from embedkit.store.repeated_ids import refuse_repeated_ids
from embedkit.utils.atomic_write import atomic_folder, remove_left_behind
from embedkit.utils.endings import refuse_other_ending

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

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
) -> Path:
    """Builds an index; see ``Index.build``."""
    output = Path(output)
    respect_cores()
    refuse_other_ending(output, "an index")
    if not PartialIndex(output).folder.is_dir():
        refuse_existing(output, overwrite=overwrite)
    with StoreRows.open(stores) as rows, PartialIndex.locked(output) as partial:
        remove_left_behind(output)
        refuse_repeated_ids(rows.stores, DISTINCT_IDS)
        plan = make_plan(spec, rows, output)
        if output.exists() and not overwrite and _was_made(partial, plan):
            partial.clear()
            return output
        refuse_existing(output, overwrite=overwrite)
        begin_or_resume(partial, plan, overwrite=overwrite)
        with discarding_failures(partial):
            made = IndexBuild(partial, plan, rows, cluster).run()
            if made.index.ntotal != plan.count:
                raise RuntimeError(f"it holds {made.index.ntotal} of {plan.count} rows")
        with writing_errors(output), atomic_folder(output) as folder:
            manifest = made.write(ContentWriter(folder))
            with HashingFile(folder / MANIFEST) as file:
                file.write(manifest.to_json())
        partial.discard()
    return output


def _was_made(partial: PartialIndex, plan: Plan) -> bool:
    """Whether the index of a plan is whole: a run was killed between its last step and tidying."""
    config, path = plan.to_config(), partial.output / MANIFEST
    if partial.is_other(config) or not path.is_file():
        return False
    return partial.has_made(IndexManifest.read(path), config)


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
        with writing_errors(partial.output):
            yield
    except (StoreError, IndexCorruptError, ValueError):
        partial.clear()
        raise
    except RuntimeError as exc:
        partial.clear()
        raise ValueError(
            f"{partial.output}: faiss can't build this index: {faiss_reason(exc)}"
        ) from exc
