"""Writes what SemDeDup keeps as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.store_rows import StoreRows
from embedkit.utils.progress import track
from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from embedkit.dedup.semantic.semdedup import SemanticSelection

__all__ = ["COLUMNS", "write_semantic"]

COLUMNS = (
    Column("id", "string"),
    Column("cluster", "int32"),
    Column("distance", "float32"),
    Column("decision", "string"),
    Column("similar_to", "string"),
    Column("cosine", "float32"),
    Column("row", "int64"),
)
_PIECE = 65536  # rows


def write_semantic(
    found: SemanticSelection, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes one line per image, in the store's order: ``decision`` is ``kept`` or ``removed``.

    ``similar_to`` is the most similar image before it in its cluster, by which a removed image is
    removed; empty for the first image of a cluster, whose ``cosine`` is -1.

    Args:
        found: Result of ``semantic_dedup``.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written, or the store can't be read.
        ValueError: ``output`` has another suffix.
    """
    decisions = np.where(found.kept, "kept", "removed")
    with (
        StoreRows.open([found.path]) as rows,
        table_file(output, COLUMNS, "selections", overwrite=overwrite) as table,
    ):
        starts = range(0, len(found.rows), _PIECE)
        for start in track(starts, "writing", len(starts), unit="pieces"):
            some = slice(start, start + _PIECE)
            table.write(
                (
                    _names(rows, found.rows[some]),
                    found.clusters[some],
                    found.distances[some],
                    decisions[some].tolist(),
                    _names(rows, found.similar[some]),
                    found.cosines[some],
                    found.rows[some],
                )
            )
    return Path(output)


def _names(rows: StoreRows, numbers: NDArray[np.int64]) -> list[str]:
    """The ids of rows in any order; empty for -1."""
    known, back = np.unique(numbers[numbers >= 0], return_inverse=True)
    ids = [name.decode("utf-8", "surrogateescape") for name in rows.ids(known)]
    names = np.full(len(numbers), "", object)
    names[numbers >= 0] = np.array(ids, object)[back]
    return names.tolist()
