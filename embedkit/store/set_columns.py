"""Puts columns of ``/images`` into an existing store: nothing is embedded again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.store.format import IMAGE_DTYPES, OPTIONAL_DTYPES
from embedkit.store.store import EmbeddingStore
from embedkit.store.working_dir import PartialStore
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.progress import track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from embedkit.store.format import RowBlock
    from embedkit.store.reader import ShardFile

__all__ = ["set_columns"]


def set_columns(store: str | os.PathLike[str], columns: Mapping[str, NDArray[Any]]) -> None:
    """Adds or replaces optional columns; ids, embeddings and all else stay as they are.

    The store is written anew and replaced at once: a reader sees the old or the new one. Indexes
    that were built from it stay valid.

    Args:
        store: A store file or folder.
        columns: ``(N,)`` values by the name of an optional column; texts as UTF-8 bytes.

    Raises:
        StoreError: The store can't be read or written, or a run for it is unfinished.
        StoreLockedError: Another process is writing the store.
        ValueError: A column isn't an optional one, or has another length.
    """
    with (
        EmbeddingStore.open(store) as opened,
        PartialStore.locked(opened.path) as partial,
    ):
        for name, values in columns.items():
            if name not in OPTIONAL_DTYPES or len(values) != len(opened):
                raise ValueError(f"{name}: no optional column of {len(opened)} values")
        if partial.is_begun:
            raise StoreError(f"{partial.folder}: holds an unfinished run; finish it first")
        before, first = [*opened.meta.same_rows_as, opened.fingerprint], 0
        for number in range(len(opened.shards)):
            shard = opened.shard(number)
            mine = {name: all_[first : first + len(shard)] for name, all_ in columns.items()}
            stored = [*shard.columns, *columns]
            content = ShardContent(
                replace(opened.meta, same_rows_as=before),
                shard.counts,
                track(_with(shard, mine), "writing", len(shard), unit="rows", size=len),
                shard.failures(),
                shard.has_labels,
                shard.head(),
                [name for name in (*IMAGE_DTYPES, *OPTIONAL_DTYPES) if name in stored],
            )
            with partial.shard_file(number) as file:
                write_shard(file, content)
            first += len(shard)
        partial.finish(len(opened.shards), sharded=opened.path.is_dir())


def _with(shard: ShardFile, columns: Mapping[str, NDArray[Any]]) -> Iterator[RowBlock]:
    start = 0
    for block in shard.blocks():
        more = {name: values[start : start + len(block)] for name, values in columns.items()}
        yield replace(block, images={**block.images, **more})
        start += len(block)
