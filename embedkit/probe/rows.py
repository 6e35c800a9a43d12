"""Embeddings as a probe reads them: float32, normalised or as stored, in blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError
from embedkit.utils.vectors import first_not_finite, unit_rows, widen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.store.lazy_views import EmbeddingsView

__all__ = ["Rows", "scaled"]


def scaled(vectors: NDArray[np.floating], *, normalize: bool) -> NDArray[np.float32]:
    """Features as a probe takes them, ``(n, D)`` float32."""
    return unit_rows(vectors) if normalize else widen(vectors)


class Rows:
    """n rows of embeddings, read from disk on each access.

    Args:
        embeddings: ``(N, D)`` float16 or float32 array, memory map or view of a store.
        rows: ``(n,)`` row numbers, in any order; None is all.
        normalize: Whether rows get unit L2 norm.
        name: The file, for errors.

    Attributes:
        dim: D.
        normalize: Whether rows get unit L2 norm.
    """

    def __init__(
        self,
        embeddings: NDArray[np.floating] | EmbeddingsView,
        rows: NDArray[np.int64] | None = None,
        *,
        normalize: bool = True,
        name: str = "embeddings",
    ) -> None:
        self._embeddings = embeddings
        self._rows = np.arange(len(embeddings)) if rows is None else rows
        self._name = name
        self.normalize = normalize
        self.dim = int(embeddings.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, which: NDArray[np.int64]) -> Rows:
        """Some of the rows, in another order."""
        rows = self._rows[which]
        return Rows(self._embeddings, rows, normalize=self.normalize, name=self._name)

    def stored(self, start: int, stop: int) -> NDArray[np.floating]:
        """The rows from ``start`` to ``stop`` as they are stored, ``(m, D)``.

        Raises:
            StoreError: A row isn't finite.
        """
        numbers = self._rows[start:stop]
        # Sorted, so that the disk is read in one direction.
        order = np.argsort(numbers, kind="stable")
        found = np.empty((len(numbers), self.dim), self._embeddings.dtype)
        found[order] = self._embeddings[numbers[order]]
        bad = first_not_finite(found)
        if bad is not None:
            raise StoreError(f"{self._name}: row {numbers[bad]} isn't finite")
        return found

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """The rows from ``start`` to ``stop`` as a probe takes them, ``(m, D)``.

        Raises:
            StoreError: A row isn't finite.
        """
        return scaled(self.stored(start, stop), normalize=self.normalize)

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows, ``size`` at a time: number of the first one, and ``(m, D)``."""
        for start in range(0, len(self), size):
            yield start, self.block(start, min(start + size, len(self)))
