"""Each image's nearest others, exact, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["nearest_others"]

_BLOCK_ROWS = 2048  # cosines of two blocks are 16 MiB


def nearest_others(store: EmbeddingStore, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest other images of each image by cosine, best first.

    Every pair is compared: the time grows with the square of N, the memory with ``N k``.

    Args:
        store: N embeddings; they need not be normalised.
        k: How many; no more than N - 1 are found.

    Returns:
        ``(N, k)`` row numbers and cosines. Of equal cosines the lower row comes first.
    """
    count = len(store)
    k = max(min(k, count - 1), 0)
    rows, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    blocks = [
        slice(start, min(start + _BLOCK_ROWS, count)) for start in range(0, count, _BLOCK_ROWS)
    ]
    for mine in blocks:
        left = unit_rows(store.embeddings[mine])
        best = np.full((len(left), k), -1, np.int64), np.full((len(left), k), -np.inf, np.float32)
        for others in blocks:
            cosines = left @ unit_rows(store.embeddings[others]).T
            if mine == others:
                np.fill_diagonal(cosines, -np.inf)
            numbers = np.broadcast_to(np.arange(others.start, others.stop), cosines.shape)
            best = _best(np.hstack([best[0], numbers]), np.hstack([best[1], cosines]), k)
        rows[mine], scores[mine] = best
    return rows, scores


def _best(
    rows: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k highest of each line, best first; of equal ones those that stand first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
