"""Puts labels into an existing store: nothing is embedded again."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.sources.base import Source
from embedkit.sources.id_lookup import archive_of
from embedkit.sources.labels import FolderLabels, LabelColumns, TableLabels
from embedkit.store.store import EmbeddingStore
from embedkit.store.working_dir import PartialStore
from embedkit.store.writer import ShardContent, write_shard
from embedkit.types import ImageRecord
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.store.format import RowBlock
    from embedkit.store.reader import ShardFile
    from embedkit.utils.progress import ProgressCallback

__all__ = ["LabelSummary", "label"]


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """The result of putting labels into a store.

    Attributes:
        path: The store.
        images: Its rows.
        labeled: Rows that have a label now.
        classes: Different labels.
    """

    path: Path
    images: int
    labeled: int
    classes: int


def label(
    store: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    label_column: str | None = None,
    label_id_column: str | None = None,
    progress: bool | ProgressCallback = False,
) -> LabelSummary:
    """Replaces the labels of a store; ids, embeddings and all else stay as they are.

    The store is written anew and replaced at once: a reader sees the old or the new one. Indexes
    that were built from it stay valid.

    Args:
        store: A store file or folder.
        labels: ``folder`` for the name of the folder that an image lies in, ``none`` for no
            labels, or a ``.csv`` or ``.parquet`` file. Such a table holds the ids, or the paths
            below the source or inside the archive, in the column ``id``, ``path``, ``file``,
            ``filename`` or ``image``, else in the first one.
        label_column: The column of the table that becomes the labels; None takes ``label``.
        label_id_column: The column of the table that holds ids or paths; None finds it.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        How many images have a label.

    Raises:
        SourceError: The table can't be read, lacks the column, or has none of the images.
        StoreError: The store can't be read or written, or a run for it is unfinished.
        StoreLockedError: Another process is writing the store.
        ValueError: ``labels`` is none of these.
    """
    name = os.fspath(labels)
    is_table = name.lower().endswith((".csv", ".parquet"))
    if not is_table and name not in {"folder", "none"}:
        raise ValueError(f"labels must be folder, none, or a .csv or .parquet file: {name!r}")
    with (
        reporting(progress),
        EmbeddingStore.open(store) as opened,
        PartialStore.locked(opened.path) as partial,
    ):
        if partial.is_begun:
            raise StoreError(f"{partial.folder}: holds an unfinished run; finish it first")
        records = _labeled(opened, name, LabelColumns(label_id_column, label_column))
        found: set[bytes] = set()
        labeled = 0
        before = [*opened.meta.same_rows_as, opened.fingerprint]
        shards = range(len(opened.shards))
        for number in track(shards, "labelling", len(shards), unit="shards"):
            shard = opened.shard(number)
            texts = [next(records) for _ in range(len(shard))]
            labeled += sum(map(bool, texts))
            found.update(filter(None, texts))
            meta = replace(opened.meta, labels_from=name, same_rows_as=before)
            content = ShardContent(
                meta,
                shard.counts,
                track(_relabeled(shard, texts), "labeling", len(shard), unit="rows", size=len),
                shard.failures(),
                name != "none",
                shard.head(),
                shard.columns,
            )
            with partial.shard_file(number) as file:
                write_shard(file, content)
        for _ in records:  # raises if no image of the store has a label
            raise StoreError(f"{opened.path}: changed while it was read")
        partial.finish(len(opened.shards), sharded=opened.path.is_dir())
        return LabelSummary(opened.path, len(opened), labeled, len(found))


def _labeled(store: EmbeddingStore, labels: str, columns: LabelColumns) -> Iterator[bytes]:
    """The label of each row, UTF-8; empty where there is none."""
    source: Source = _StoredIds(store)
    if labels == "folder":
        source = FolderLabels(source)
    elif labels != "none":
        source = TableLabels(source, labels, roots=store.meta.source, columns=columns)
    return ((one.label or "").encode("utf-8", "surrogateescape") for one in source.scan())


def _relabeled(shard: ShardFile, labels: list[bytes]) -> Iterator[RowBlock]:
    start = 0
    for block in shard.blocks():
        yield replace(block, labels=labels[start : start + len(block)])
        start += len(block)


class _StoredIds(Source):
    """The images of a store, as a source lists them, without labels."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def scan(self) -> Iterator[ImageRecord]:
        """List the images in the order of the rows."""
        for name in self._store.ids:
            archive = archive_of(name, self._store.meta.folders())
            if archive is None:
                yield ImageRecord(name, name)
            else:
                yield ImageRecord(name, archive, "tar")
