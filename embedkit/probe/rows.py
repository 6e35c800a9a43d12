"""Rows of a store as a probe takes them: float32, of unit length or as stored, a block at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError
from embedkit.vectors import first_not_finite, unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["Rows", "scaled"]


def scaled(vectors: NDArray[np.floating], *, normalize: bool) -> NDArray[np.float32]:
    """Features as a probe takes them, ``(n, D)`` float32."""
    return unit_rows(vectors) if normalize else np.asarray(vectors, np.float32)


class Rows:
    """n rows of a store, which are read anew each time they are asked for.

    Args:
        store: The store; it stays open for as long as this is used.
        rows: ``(n,)`` row numbers, in any order.
        normalize: Whether rows get unit L2 norm.

    Attributes:
        dim: D.
    """

    def __init__(
        self, store: EmbeddingStore, rows: NDArray[np.int64], *, normalize: bool = True
    ) -> None:
        self._store = store
        self._rows = rows
        self.normalize = normalize
        self.dim = store.meta.feature_dim

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, which: NDArray[np.int64]) -> Rows:
        """Some of the rows, in another order."""
        return Rows(self._store, self._rows[which], normalize=self.normalize)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """The rows from ``start`` to ``stop``, ``(m, D)``.

        Raises:
            StoreError: A row isn't finite.
        """
        numbers = self._rows[start:stop]
        # Sorted, so that the disk is read in one direction.
        order = np.argsort(numbers, kind="stable")
        found = np.empty((len(numbers), self.dim), self._store.meta.dtype)
        found[order] = self._store.embeddings[numbers[order]]
        bad = first_not_finite(found)
        if bad is not None:
            raise StoreError(f"{self._store.path}: row {numbers[bad]} isn't finite")
        return scaled(found, normalize=self.normalize)

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows, ``size`` at a time: number of the first one, and ``(m, D)``."""
        for start in range(0, len(self), size):
            yield start, self.block(start, min(start + size, len(self)))
