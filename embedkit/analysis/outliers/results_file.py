"""Writes outliers as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os

    from embedkit.analysis.outliers.outliers import Outliers

__all__ = ["COLUMNS", "write_outliers"]

COLUMNS = (
    Column("kind", "string"),
    Column("rank", "int32"),
    Column("id", "string"),
    Column("score", "float32"),
    Column("label", "string"),
    Column("suggested", "string"),
    Column("row", "int64"),
)


def write_outliers(
    found: Outliers, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes outliers as CSV, JSON lines or Parquet: one line per image and kind, worst first.

    Args:
        found: Result of ``find_outliers``.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written.
        ValueError: ``output`` has another suffix.
    """
    with table_file(output, COLUMNS, "outliers", overwrite=overwrite) as table:
        for some in (found.off_topic, found.labels):
            table.write(
                (
                    [one.kind for one in some],
                    range(1, len(some) + 1),
                    [one.id for one in some],
                    np.array([one.score for one in some], np.float32),
                    [one.label for one in some],
                    [one.suggested for one in some],
                    [one.row for one in some],
                )
            )
    return Path(output)
