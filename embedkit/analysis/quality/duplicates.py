"""Duplicates among a store's images: of equal bytes, and those that a search has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import DedupError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from embedkit.store import EmbeddingStore

__all__ = ["exact_duplicates", "near_duplicates"]


def exact_duplicates(store: EmbeddingStore) -> Iterator[tuple[int, int]]:
    """Rows whose encoded images are those of an earlier row, and that row."""
    hashes = np.ascontiguousarray(store.images("content_hash"))
    if not len(hashes):
        return
    whole = hashes.view(np.dtype((np.void, hashes.shape[1])))[:, 0]
    _, first, groups = np.unique(whole, return_index=True, return_inverse=True)
    for row in np.flatnonzero(first[groups] != np.arange(len(whole))).tolist():
        yield row, int(first[groups[row]])


def near_duplicates(
    store: EmbeddingStore, folder: str | os.PathLike[str]
) -> list[tuple[int, int, float]]:
    """Rows that a search found to be near-duplicates of an earlier row, that row and the score.

    Args:
        store: The store that was searched.
        folder: The result of ``dedup find`` on it.

    Returns:
        Each such row once, with the earlier row of the highest score; the highest scores first.

    Raises:
        DedupError: The folder can't be read, or is of another store.
    """
    from embedkit.dedup.output.folder import read_duplicates  # pyarrow, only if it is needed

    found = read_duplicates(folder)
    if found.against is not None or not store.has_rows_of(found.store.digest):
        raise DedupError(f"{folder}: isn't of {store.path} as it is now; run dedup find again")
    pairs = found.pairs
    order = np.lexsort((pairs.first, -pairs.score, pairs.second))
    rows, first = np.unique(pairs.second[order], return_index=True)
    best = order[first]
    lines = zip(rows.tolist(), pairs.first[best].tolist(), pairs.score[best].tolist(), strict=True)
    return sorted(lines, key=lambda line: (-line[2], line[0]))
