"""Puts labels into an existing store: nothing is embedded again."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.sources.base import Source
from embedkit.sources.id_lookup import archive_of
from embedkit.sources.labels import FolderLabels, LabelColumns, TableLabels
from embedkit.store.rewrite import open_for_rewriting, rewrite_shards
from embedkit.types import ImageRecord
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.store.format import RowBlock
    from embedkit.store.store import EmbeddingStore
    from embedkit.utils.progress import ProgressCallback

__all__ = ["LabelSummary", "StoredIds", "label"]


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
    with reporting(progress), open_for_rewriting(store) as (opened, partial):
        texts = _labeled(opened, name, LabelColumns(label_id_column, label_column))
        found: Counter[bytes] = Counter()

        def revise(_: int, block: RowBlock) -> RowBlock:
            labels = [next(texts) for _ in range(len(block))]
            found.update(filter(None, labels))
            return replace(block, labels=labels)

        meta = replace(opened.meta, labels_from=name)
        rewrite_shards(opened, partial, revise, meta=meta, with_labels=name != "none")
        for _ in texts:  # raises if no image of the store has a label
            raise StoreError(f"{opened.path}: changed while it was read")
        partial.finish(len(opened.shards), sharded=opened.path.is_dir())
        return LabelSummary(opened.path, len(opened), found.total(), len(found))


def _labeled(store: EmbeddingStore, labels: str, columns: LabelColumns) -> Iterator[bytes]:
    """The label of each row, UTF-8; empty where there is none."""
    source: Source = StoredIds(store)
    if labels == "folder":
        source = FolderLabels(source)
    elif labels != "none":
        source = TableLabels(source, labels, roots=store.meta.source, columns=columns)
    return ((one.label or "").encode("utf-8", "surrogateescape") for one in source.scan())


class StoredIds(Source):
    """The images of a store, as a source lists them, without labels.

    Args:
        store: The store.
    """

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
