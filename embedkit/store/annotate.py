"""Puts columns of a table into a store, or removes them: nothing is embedded again."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import SourceError, StoreError
from embedkit.sources.value_table import open_table
from embedkit.store.annotations import (
    ANNOTATION_DTYPES,
    MOST_ANNOTATIONS,
    annotation_kind,
    name_problem,
)
from embedkit.store.filled_columns import FilledColumns
from embedkit.store.match_table import match_table
from embedkit.store.rewrite import open_for_rewriting, rewrite_shards
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.sources.value_table import ValueTable
    from embedkit.store.format import RowBlock
    from embedkit.store.store import EmbeddingStore
    from embedkit.store.working_dir import PartialStore
    from embedkit.types import AnnotationKind
    from embedkit.utils.progress import ProgressCallback

__all__ = ["AnnotationSummary", "annotate", "check_annotations", "set_annotations"]


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """The result of putting columns into a store.

    Attributes:
        path: The store.
        images: Its rows.
        matched: Images that the table has.
        unmatched: Rows of the table that are of no image of the store.
        added: The columns that were put in: name to kind.
        removed: The columns that were removed.
    """

    path: Path
    images: int
    matched: int
    unmatched: int
    added: Mapping[str, AnnotationKind]
    removed: tuple[str, ...]


def annotate(
    store: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    *,
    key: str | None = None,
    columns: Sequence[str] | None = None,
    remove: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> AnnotationSummary:
    """Puts columns of a table into a store; ids, embeddings and all else stay as they are.

    The columns can be used in filters (``year>=2020``); ``EmbeddingStore.images`` reads them, and
    updates, merges and exports keep them. An image without a row in the table, or with an empty
    value there, has a missing value: such a value passes only filters with ``!=``.

    The store is written anew and replaced at once: a reader sees the old or the new one. Indexes
    that were built from it stay valid.

    Args:
        store: A store file or folder.
        table: A ``.csv`` or ``.parquet`` file with one row per image; None only removes. Columns
            hold texts, integers, floats or booleans; dates become texts.
        key: The column of the table that holds ids, or paths below the source or inside the
            archive; None takes ``id``, ``path``, ``file``, ``filename``, ``file_name`` or
            ``image``, else the first one.
        columns: The columns to put in; None takes all but ``key``.
        remove: Columns of earlier calls to remove.
        overwrite: Whether columns that the store has already are replaced.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        What was put in, and for how many images.

    Raises:
        SourceError: The table can't be read, lacks a column, has an image twice, or has none of
            the images; or a column holds values of another kind.
        StoreError: The store can't be read or written, a run for it is unfinished, or it has
            such a column already, or lacks one to remove.
        StoreLockedError: Another process is writing the store.
        ValueError: There is nothing to do, or a column can't have its name.
    """
    if table is None and not remove:
        raise ValueError("nothing to do: give a table, or columns to remove")
    with reporting(progress), open_for_rewriting(store) as (opened, partial):
        _refuse_unknown(opened, remove)
        if table is None:
            _write(opened, partial, {}, remove)
            return AnnotationSummary(opened.path, len(opened), 0, 0, {}, tuple(remove))
        source = open_table(os.fspath(table), key)
        names = _chosen(source, columns)
        check_annotations(opened, names, remove=remove, overwrite=overwrite)
        kinds = source.kinds(names)
        entries, rows = match_table(opened, source.keys(), source.path)
        with FilledColumns(partial.folder, kinds, len(opened)) as filled:
            filled.fill(source, kinds, entries)
            _write(opened, partial, filled.columns, remove)
        used = np.unique(entries[entries >= 0])
        matched = int((entries >= 0).sum())
        return AnnotationSummary(
            opened.path, len(opened), matched, rows - len(used), kinds, tuple(remove)
        )


def set_annotations(
    store: str | os.PathLike[str], columns: Mapping[str, NDArray[Any]], *, overwrite: bool = False
) -> None:
    """Puts columns that were computed into a store, as ``annotate`` does it with a table's.

    Args:
        store: A store file or folder.
        columns: ``(N,)`` values by name, of a dtype of ``ANNOTATION_DTYPES``.
        overwrite: Whether columns that the store has already are replaced.

    Raises:
        StoreError: As ``annotate``.
        StoreLockedError: Another process is writing the store.
        ValueError: A column has another length or dtype, or can't have its name.
    """
    with open_for_rewriting(store) as (opened, partial):
        check_annotations(opened, columns, overwrite=overwrite)
        for name, values in columns.items():
            if len(values) != len(opened) or annotation_kind(values.dtype) is None:
                raise ValueError(f"{name}: {values.dtype} {values.shape} for {len(opened)} images")
        _write(opened, partial, columns, ())


def check_annotations(
    store: EmbeddingStore,
    names: Collection[str],
    *,
    remove: Collection[str] = (),
    overwrite: bool = False,
) -> None:
    """Checks that columns of these names can be put into a store.

    Raises:
        StoreError: There is such a column already, or there would be too many.
        ValueError: A column can't have its name.
    """
    for name in names:
        if problem := name_problem(name):
            raise ValueError(
                f"{store.path}: can't take a column {name!r}: the name {problem}; rename it, or "
                "choose others by columns=NAMES"
            )
    kept = {*store.annotations} - {*remove}
    if (again := sorted(kept & {*names})) and not overwrite:
        raise StoreError(
            f"{store.path}: has a column {again[0]} already; overwrite=True replaces it"
        )
    if len(kept | {*names}) > MOST_ANNOTATIONS:
        raise StoreError(
            f"{store.path}: would have more than {MOST_ANNOTATIONS} columns put in: choose fewer "
            "by columns=NAMES"
        )


def _chosen(table: ValueTable, columns: Sequence[str] | None) -> list[str]:
    names = [name for name in table.names if name != table.key] if columns is None else columns
    for name in names:
        if name not in table.names:
            raise SourceError(table.lacks(repr(name), "columns=NAMES"))
    if not names:
        raise ValueError(f"{table.path}: has no column beside {table.key}")
    return list(dict.fromkeys(names))


def _refuse_unknown(store: EmbeddingStore, names: Iterable[str]) -> None:
    there = store.annotations
    for name in names:
        if name not in there:
            raise StoreError(
                f"{store.path}: no column {name} was put in by annotate; it has "
                f"{', '.join(there) or 'none'}"
            )


def _write(
    store: EmbeddingStore,
    partial: PartialStore,
    columns: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    """Writes the store with more columns: name to what gives values by a slice of rows."""
    dtypes = {name: ANNOTATION_DTYPES[kind] for name, kind in store.annotations.items()}
    dtypes = {name: dtype for name, dtype in dtypes.items() if name not in removed}
    dtypes |= {name: values.dtype for name, values in columns.items()}

    def revise(first: int, block: RowBlock) -> RowBlock:
        images = {name: one for name, one in block.images.items() if name not in removed}
        more = {name: values[first : first + len(block)] for name, values in columns.items()}
        return replace(block, images={**images, **more})

    rewrite_shards(store, partial, revise, annotations=dtypes)
    partial.finish(len(store.shards), sharded=store.path.is_dir())
