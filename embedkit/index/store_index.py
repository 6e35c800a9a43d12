"""``StoreIndex``: a store that is searched exactly, row by row, without an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.index.brute_force import nearest_rows
from embedkit.index.open import refuse_other_queries
from embedkit.index.openmp import respect_cores
from embedkit.index.store_rows import RowOrder, StoreRows
from embedkit.index.vector_space import Space
from embedkit.store.store import EmbeddingStore
from embedkit.types import Neighbors
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from embedkit.index.spec import Metric
    from embedkit.store.format import StoreMeta

__all__ = ["StoreIndex"]


class StoreIndex:
    """Answers as an exact index of one store would; each search reads the whole store.

    Args:
        path: The store.

    Attributes:
        path: As given.
        metric: ``cosine``.
        dim: D, the length of queries.
        meta: How the rows were embedded.

    Raises:
        StoreError: The store can't be read.
    """

    metric: Metric = "cosine"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        respect_cores()
        self.store = EmbeddingStore(path)
        self.path, self.meta = self.store.path, self.store.meta
        self.dim = self.meta.feature_dim
        self.digest = self.store.fingerprint
        self.fingerprints = (self.digest,)

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        return f"<StoreIndex of {self.store!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def search(
        self,
        queries: NDArray[np.floating],
        k: int = 10,
        *,
        passing: NDArray[np.bool_] | None = None,
    ) -> Neighbors:
        """Finds the nearest images of each query; see ``Index.search``."""
        queries = checked_queries(queries, self.dim)
        scores = np.full((len(queries), k), np.nan, np.float32)
        rows, count = StoreRows([self.store]), min(k, len(self))
        if not count or not len(queries):
            return Neighbors(((),) * len(queries), scores)
        space = Space(self.metric, self.dim)
        found, measured = nearest_rows(
            space.project(queries), rows, RowOrder(len(rows)), space, count,
            stop=len(rows), removed=None if passing is None else ~passing,
        )  # fmt: skip
        scores[:, :count] = np.where(found < 0, np.nan, measured)
        names = {row: self.store.ids[row] for row in np.unique(found[found >= 0]).tolist()}
        return Neighbors(
            tuple(tuple(names[row] for row in near if row >= 0) for near in found.tolist()), scores
        )

    def unknown(self, ids: Iterable[str]) -> set[str]:
        """The ids that the store doesn't have."""
        return {name for name in ids if name not in self.store}

    def open_stores(self) -> tuple[EmbeddingStore, ...]:
        """Opens the store once more; the caller closes it."""
        return (EmbeddingStore(self.path),)

    def check_compatible(self, meta: StoreMeta) -> None:
        """Rejects queries with other embedding settings; see ``Index.check_compatible``."""
        refuse_other_queries(self.path, self.metric, self.meta, meta)


def checked_queries(queries: NDArray[np.floating], dim: int) -> NDArray[np.floating]:
    """Queries that can be searched with.

    Raises:
        ValueError: They aren't ``(Q, dim)``, or one isn't finite.
    """
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries must be (Q, {dim}), not {queries.shape}")
    bad = first_not_finite(queries)
    if bad is not None:
        raise ValueError(f"query {bad} holds values that aren't finite")
    return queries
