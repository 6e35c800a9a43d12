"""Writes clusters as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.store_rows import StoreRows
from embedkit.utils.progress import track
from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os

    from embedkit.analysis.clustering.cluster import Clusters

__all__ = ["COLUMNS", "write_clusters"]

COLUMNS = (
    Column("id", "string"),
    Column("cluster", "int32"),
    Column("distance", "float32"),
    Column("cluster_name", "string"),
    Column("row", "int64"),
)
_PIECE = 65536  # rows


def write_clusters(
    found: Clusters, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes clusters as CSV, JSON lines or Parquet: one line per image, in the store's order.

    Args:
        found: Result of ``cluster``.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written, or the store can't be read.
        ValueError: ``output`` has another suffix.
    """
    names = np.array(found.names, object)
    with (
        StoreRows.open([found.path]) as rows,
        table_file(output, COLUMNS, "clusters", overwrite=overwrite) as table,
    ):
        starts = range(0, len(found.rows), _PIECE)
        for start in track(starts, "writing", len(starts), unit="pieces"):
            some = slice(start, start + _PIECE)
            ids = [name.decode("utf-8", "surrogateescape") for name in rows.ids(found.rows[some])]
            clusters = found.clusters[some]
            table.write((ids, clusters, found.distances[some], names[clusters], found.rows[some]))
    return Path(output)
