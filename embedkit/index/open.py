"""Builds the searcher from the files of an index, and rejects incompatible queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import IndexCorruptError, IndexMismatchError
from embedkit.index.inverted_lists import ids_are_within
from embedkit.index.rerank import Reranker
from embedkit.index.searcher import Searcher
from embedkit.index.store_rows import StoreRows

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.index.generation import ContentReader
    from embedkit.index.spec import Metric
    from embedkit.index.store_rows import RowOrder
    from embedkit.store.format import StoreMeta

__all__ = ["make_searcher", "refuse_other_queries"]


def make_searcher(reader: ContentReader, order: RowOrder, num_ids: int) -> Searcher:
    """Makes the searcher of an index, with its reranker.

    Args:
        reader: The index's files.
        order: Which row of the stores lies at which position.
        num_ids: How many ids there are.

    Raises:
        IndexCorruptError: The files don't fit together.
        IndexFileError: A store that the index needs is missing.
        IndexMismatchError: A store has changed.
    """
    reader.refuse_changed_stores()
    manifest, index = reader.manifest, reader.index()
    if "trained" in manifest.files:
        reader.checked("trained")  # needed only when rows are added, which is late to find damage
    space, removed = reader.space(), reader.removed()
    counts = (index.ntotal, num_ids, index.d, len(removed))
    expected = (manifest.count, manifest.count, space.dim, manifest.removed)
    if counts != expected or not (manifest.on_disk or ids_are_within(index, manifest.count)):
        raise IndexCorruptError(f"{reader.folder}: vectors, ids and manifest don't fit together")
    excluded = None
    if manifest.removed:
        excluded = np.zeros(manifest.count, np.bool_)
        excluded[removed] = True
    reranker = None
    if manifest.rerank:
        factors = reader.factors(space)
        rows = StoreRows.reopen(manifest.stores, reader.folder)
        reranker = Reranker(space, rows, order, factors)
    return Searcher(index, space, manifest.params, reranker, excluded)


def refuse_other_queries(path: Path, metric: Metric, mine: StoreMeta, other: StoreMeta) -> None:
    """Rejects queries with other embedding settings than the index.

    Args:
        path: The index.
        metric: Its metric.
        mine: How it was embedded.
        other: How the queries were embedded.

    Raises:
        IndexMismatchError: They can't be compared; the message names each difference.
    """
    differences = mine.differences(other, purpose="compare", unit_norm=metric == "cosine")
    listed = "; ".join(
        f"{key}: {own} in the index, {theirs} in the queries"
        for key, (own, theirs) in differences.items()
    )
    if listed:
        raise IndexMismatchError(
            f"{path}: the queries have other embedding settings ({listed}); embed "
            "them with the settings of the index, or build an index with theirs"
        )
