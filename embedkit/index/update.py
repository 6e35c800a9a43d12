"""Updates an index: adds stores, removes images, drops removed rows (compaction).

Each change writes files under new names and then replaces the manifest, so each change is atomic:
readers see the index before or after it, and an open index doesn't change.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import IndexFileError
from embedkit.index.add import Addition
from embedkit.index.build import begin_or_resume, discarding_failures
from embedkit.index.build_plan import Plan, store_entries
from embedkit.index.build_steps import IndexBuild
from embedkit.index.file_io import writing_errors
from embedkit.index.generation import (
    ContentReader,
    ContentWriter,
    change_generation,
    tidy,
    write_excluded,
)
from embedkit.index.id_table import IdTable
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.openmp import respect_cores
from embedkit.index.store_rows import StoreRows
from embedkit.index.working_dir import PartialIndex
from embedkit.utils.atomic_write import remove_left_behind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


__all__ = ["add_stores", "changing", "compact_index", "remove_ids"]


def add_stores(path: Path, stores: Sequence[str | os.PathLike[str]]) -> int:
    """Adds all rows of the stores and returns their number; see ``Index.add``."""
    with changing(path) as (partial, reader), StoreRows.open(stores) as rows:
        partial.clear()
        addition = Addition(partial, reader, rows)
        with writing_errors(path):
            manifest = addition.write(store_entries(rows, path))
        change_generation(path, manifest)
        return len(rows)


def remove_ids(path: Path, ids: Iterable[str]) -> int:
    """Removes images and returns the number of removed rows; see ``Index.remove``."""
    with changing(path) as (partial, reader):
        partial.clear()
        manifest, before = reader.manifest, reader.removed()
        requested = set(ids)
        positions = _positions_of(reader, requested, before)
        removed = np.union1d(before, positions).astype("<i8")
        generation = manifest.generation + 1
        with writing_errors(path):
            writer = ContentWriter(path, generation, manifest.files)
            writer.write("removed", lambda write: write(removed.tobytes()))
            write_excluded(writer, reader.excluded() | requested)
        changed = replace(manifest, files=writer.files, removed=len(removed), generation=generation)
        change_generation(path, changed)
        return len(positions)


def compact_index(path: Path) -> int:
    """Drops the removed rows and returns their number; see ``Index.compact``."""
    with changing(path) as (partial, reader):
        manifest = reader.manifest
        if not manifest.removed:
            return 0
        with StoreRows.reopen(manifest.stores, path) as rows:
            made = _remade(partial, reader, rows)
            with writing_errors(path):
                writer = ContentWriter(path, manifest.generation + 1)
                write_excluded(writer, reader.excluded())
                changed = made.write(writer, manifest)
        change_generation(path, changed)
        partial.discard()
        return manifest.removed


@contextmanager
def changing(
    path: Path, *, of_changed_stores: bool = False
) -> Iterator[tuple[PartialIndex, ContentReader]]:
    """Locks an index for changes; its stores must be those it was built from, if not said else.

    Raises:
        IndexFileError: Another process does, or the index can't be changed.
    """
    respect_cores()
    IndexManifest.read(path / MANIFEST)  # fails before a working folder is created
    with PartialIndex.locked(path) as partial:
        manifest = IndexManifest.read(path / MANIFEST)
        if "trained" not in manifest.files:
            raise IndexFileError(f"{path}: of format 1, which can't be changed; build it again")
        if partial.has_made(manifest):  # and was killed before it tidied up
            partial.clear()
        begun = partial.plan()
        if begun and partial.is_begun and not begun.get("generation"):
            raise IndexFileError(
                f"{path}: another index build is unfinished there; finish it, or remove "
                f"{partial.folder}"
            )
        remove_left_behind(path)
        tidy(path, manifest)
        reader = ContentReader(path, manifest)
        if not of_changed_stores:
            reader.refuse_changed_stores()
        yield partial, reader


def _positions_of(
    reader: ContentReader, requested: set[str], removed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The positions of ids, without removed rows; each id must exist."""
    table = IdTable(reader.array("ids", "u1"))
    found, unknown = table.positions(requested)
    left = np.setdiff1d(found, removed)
    if len(left) < len(found):  # of an id whose rows are all removed nothing is left
        names = table.names(left[:, None])
        unknown = requested - {name for row in names for name in row}
    if unknown:
        first = min(unknown)
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(f"{reader.folder}: there is no image {first!r}{more}; nothing was removed")
    if len(left) > len(requested):
        counts = Counter(row[0] for row in table.names(left[:, None]))
        name, count = counts.most_common(1)[0]
        raise ValueError(
            f"{reader.folder}: {count} images have the id {name!r}; nothing was removed; build "
            "the index again from stores with distinct ids"
        )
    return left


def _remade(partial: PartialIndex, reader: ContentReader, rows: StoreRows) -> IndexBuild:
    """The index rebuilt from the remaining rows, without retraining."""
    manifest = reader.manifest
    left = np.setdiff1d(np.arange(manifest.count), reader.removed(), assume_unique=True)
    plan = Plan(
        manifest.spec,
        manifest.factory,
        manifest.rerank,
        manifest.on_disk,
        manifest.stores,
        len(left),
        0,
        manifest.generation + 1,
    )
    begin_or_resume(partial, plan, overwrite=partial.is_other(plan.to_config()))
    order = np.asarray(reader.order().at(left), "<i8")
    for name, content in (
        ("order.i8", order.tobytes()),
        ("whitening.f4", reader.content("whitening")),
        ("trained.faiss", reader.content("trained")),
    ):
        if content is not None:
            partial.keep(name, content)
    with discarding_failures(partial):
        return IndexBuild(partial, plan, rows).run()
