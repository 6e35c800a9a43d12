"""Puts columns of ``/images`` into an existing store: nothing is embedded again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.store.format import COLUMN_SHAPES, OPTIONAL_DTYPES
from embedkit.store.rewrite import open_for_rewriting, rewrite_shards

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.store.format import RowBlock

__all__ = ["set_columns"]


def set_columns(store: str | os.PathLike[str], columns: Mapping[str, NDArray[Any]]) -> None:
    """Adds or replaces optional columns; ids, embeddings and all else stay as they are.

    The store is written anew and replaced at once: a reader sees the old or the new one. Indexes
    that were built from it stay valid.

    Args:
        store: A store file or folder.
        columns: N values by the name of an optional column; texts as UTF-8 bytes.

    Raises:
        StoreError: The store can't be read or written, or a run for it is unfinished.
        StoreLockedError: Another process is writing the store.
        ValueError: A column isn't an optional one, or has another shape.
    """
    with open_for_rewriting(store) as (opened, partial):
        for name, values in columns.items():
            shape = (len(opened), *COLUMN_SHAPES.get(name, ()))
            if name not in OPTIONAL_DTYPES or values.shape != shape:
                raise ValueError(f"{name}: no optional column of {len(opened)} values")

        def revise(first: int, block: RowBlock) -> RowBlock:
            more = {name: values[first : first + len(block)] for name, values in columns.items()}
            return replace(block, images={**block.images, **more})

        omitted = [name for name in opened.meta.omitted_columns if name not in columns]
        meta = replace(opened.meta, omitted_columns=omitted)
        rewrite_shards(opened, partial, revise, more_columns=columns, meta=meta)
        partial.finish(len(opened.shards), sharded=opened.path.is_dir())
