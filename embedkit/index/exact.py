"""Searches a store without an index: every query is compared with every row, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit._version import __version__
from embedkit.index.brute_force import nearest_rows
from embedkit.index.build_plan import store_entries
from embedkit.index.id_table import IdTable
from embedkit.index.manifest import IndexManifest
from embedkit.index.spec import IndexSpec
from embedkit.index.store_rows import RowOrder, StoreRows
from embedkit.index.vector_space import Space

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.index.spec import Metric

__all__ = ["ExactSearcher", "exact_index"]


class ExactSearcher:
    """Searches the rows of a store; in the place of a ``Searcher``.

    Attributes:
        space: The space that rows are compared in.
        rows: The store's rows.
        removed: None: all rows are searched.
    """

    removed = None

    def __init__(self, space: Space, rows: StoreRows) -> None:
        self.space, self.rows = space, rows

    def search(
        self, queries: NDArray[np.floating], k: int, excluded: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest rows of each query; see ``Searcher.search``.

        Raises:
            StoreError: A row can't be read, isn't finite, or its checksum is wrong.
        """
        count = len(self.rows)
        return nearest_rows(
            self.space.project(queries), self.rows, RowOrder(count), self.space, k, stop=count,
            removed=excluded,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing runs; ``Index.close`` closes the store."""


def exact_index(
    path: Path, metric: Metric
) -> tuple[IndexManifest, IdTable, RowOrder, ExactSearcher]:
    """What an ``Index`` of a store consists of, in memory.

    Raises:
        StoreError: The store can't be read.
    """
    rows = StoreRows.open([path])
    count = len(rows)
    ids = b"".join(name + b"\0" for name in rows.ids(np.arange(count)))
    manifest = IndexManifest(
        factory="exact",
        metric=metric,
        dim=rows.dim,
        count=count,
        meta=rows.meta.to_config(),
        files={},
        embedkit_version=__version__,
        spec=IndexSpec(metric=metric),
        stores=store_entries(rows, path),
        bytes_per_vector=0.0,
    )
    table = IdTable(np.frombuffer(ids, np.uint8))
    return manifest, table, RowOrder(count), ExactSearcher(Space(metric, rows.dim), rows)
