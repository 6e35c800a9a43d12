"""Writes a store anew with other columns: nothing is embedded again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.store.format import ordered_columns
from embedkit.store.object_cache import refuse_copy
from embedkit.store.store import EmbeddingStore
from embedkit.store.working_dir import PartialStore
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.progress import track

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator

    from embedkit.store.format import RowBlock
    from embedkit.store.reader import ShardFile

__all__ = ["open_for_rewriting", "rewrite_shards"]


@contextmanager
def open_for_rewriting(
    store: str | os.PathLike[str],
) -> Iterator[tuple[EmbeddingStore, PartialStore]]:
    """A store, and its working folder, locked.

    Raises:
        StoreError: The store can't be read or written, or a run for it is unfinished.
        StoreLockedError: Another process is writing the store.
    """
    with EmbeddingStore.open(store) as opened:
        refuse_copy(opened.path)
        with PartialStore.locked(opened.path) as partial:
            if partial.is_begun:
                raise StoreError(f"{partial.folder}: holds an unfinished run; finish it first")
            yield opened, partial


def rewrite_shards(
    store: EmbeddingStore,
    partial: PartialStore,
    revise: Callable[[int, RowBlock], RowBlock],
    *,
    more_columns: Collection[str] = (),
    **changes: Any,
) -> None:
    """Writes all shards anew into the working folder; its ``finish`` puts them into place.

    The metadata remembers that the rows are those of the store before, so that indexes that were
    built from it stay valid.

    Args:
        store: The store as it is.
        partial: Its working folder.
        revise: Gives some rows as they shall be, from their first row number and the rows as
            they are; called in the order of the rows.
        more_columns: Optional columns of ``/images`` that the shards get.
        **changes: Fields of ``ShardContent`` that are others than the store's.
    """
    before, first = [*store.meta.same_rows_as, store.fingerprint], 0
    meta = replace(changes.pop("meta", store.meta), same_rows_as=before)
    shards = range(len(store.shards))
    for number in track(shards, "writing", len(shards), unit="shards"):
        shard = store.shard(number)
        content = ShardContent(
            meta,
            shard.counts,
            track(_revised(shard, first, revise), "writing", len(shard), unit="rows", size=len),
            shard.failures(),
            shard.has_labels,
            shard.head(),
            ordered_columns({*shard.columns, *more_columns}),
            shard.annotations,
        )
        with partial.shard_file(number) as file:
            write_shard(file, replace(content, **changes))
        first += len(shard)


def _revised(
    shard: ShardFile, first: int, revise: Callable[[int, RowBlock], RowBlock]
) -> Iterator[RowBlock]:
    for block in shard.blocks():
        yield revise(first, block)
        first += len(block)
