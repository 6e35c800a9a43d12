"""Searches a store without an index: every query is compared with every row, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit._version import __version__
from embedkit.index.brute_force import knn
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

_BLOCK_BYTES = 32 * 2**20


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
        vectors = self.space.project(queries)
        positions = np.full((len(vectors), k), -1)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        step = max(k, _BLOCK_BYTES // (4 * self.rows.dim))
        for start in range(0, len(self.rows), step):
            numbers = np.arange(start, min(start + step, len(self.rows)))
            if excluded is not None:
                numbers = numbers[~excluded[numbers]]
            if len(numbers):
                block = self.space.project(self.rows.read(numbers))
                near, measured = knn(vectors, block, min(k, len(block)), self.space.metric)
                positions, scores = _best(k, positions, scores, numbers[near], measured)
        return positions, scores

    def close(self) -> None:
        """Nothing runs; ``Index.close`` closes the store."""


def _best(
    k: int,
    positions: NDArray[np.int64],
    scores: NDArray[np.float32],
    more_positions: NDArray[np.int64],
    more_scores: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The top k of two sets of results; ties are ordered by position."""
    positions = np.concatenate([positions, more_positions], axis=1)
    scores = np.concatenate([scores, more_scores], axis=1)
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(scores, order, 1)


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
