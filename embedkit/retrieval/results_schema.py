"""Search results as a table: one line per neighbour.

The columns are ``query_id``, ``rank`` (from 1), ``neighbor_id`` and ``score``, whatever the format.
A query for which nothing was found has no line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.utils.table_writers import Column
from embedkit.utils.table_writers import check_suffix as check_table_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.types import SearchResult

__all__ = ["COLUMNS", "check_suffix", "neighbor_columns"]

COLUMNS = (
    Column("query_id", "string"),
    Column("rank", "int32"),
    Column("neighbor_id", "string"),
    Column("score", "float32"),
)


def neighbor_columns(
    result: SearchResult,
) -> tuple[NDArray[Any], NDArray[np.int32], list[str], NDArray[np.float32]]:
    """The values of the table's columns for the neighbours of some queries, best first."""
    found, k = result.neighbors, result.neighbors.scores.shape[1]
    counts = np.array([len(ids) for ids in found.ids], np.int64)
    there = np.arange(k) < counts[:, None]
    return (
        np.repeat(np.array([*result.queries], object), counts),
        np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), there.shape)[there],
        [name for ids in found.ids for name in ids],
        found.scores[there],
    )


def check_suffix(path: Path) -> str:
    """As ``embedkit.utils.table_writers.check_suffix``, for neighbours."""
    return check_table_suffix(path, "neighbours")
