"""Each image's nearest neighbours from an index: approximate, but much faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.outliers.exact_knn import nearest_others, unit_block
from embedkit.errors import IndexMismatchError
from embedkit.index import Index
from embedkit.utils.progress import track
from embedkit.utils.vectors import refuse_not_finite, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore
    from embedkit.types import Neighbors

__all__ = ["indexed_others"]

_NEAR_AT_ONCE = 16384  # neighbours whose rows are read together
_CHECKED = 200  # images whose exact neighbours are found, to measure the recall
_SAME = 1e-5  # cosines of float32 that differ by less are taken for equal


def indexed_others(
    store: EmbeddingStore, path: str | os.PathLike[str], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
    """The k nearest other images of each image that an index finds, best first.

    Args:
        store: N embeddings; they need not be normalised.
        path: An index of the same images, as deep as it was tuned to search.
        k: How many; no more than N - 1 are found.

    Returns:
        ``(N, k)`` row numbers and cosines, these computed from the store; and the share that is
        among the exact neighbours, of 200 images drawn at random.

    Raises:
        IndexMismatchError: The index holds other images or embeddings, or finds fewer than k
            neighbours of an image.
        StoreError: A row isn't finite.
    """
    count = len(store)
    k = max(min(k, count - 1), 0)
    rows, cosines = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    with Index.open(path) as index:
        index.check_compatible(store.meta)
        names = store.ids
        numbers = {name: row for row, name in enumerate(names)}
        if missing := index.unknown(numbers):
            raise IndexMismatchError(f"{index.path}: has no {min(missing)} of {store.path}")
        step = max(_NEAR_AT_ONCE // max(k, 1), 1)
        starts = range(0, count if k else 0, step)
        for start in track(starts, "finding neighbours", len(starts), unit="batches"):
            queries = np.arange(start, min(start + step, count))
            own, taken = names[start : start + step], store.take(queries)
            refuse_not_finite(taken, own, store.path)
            found = _others(index, index.search(taken, k + 1), own, numbers, k)
            right = unit_block(store, found.reshape(-1)).reshape(*found.shape, -1)
            near = np.einsum("nd,nkd->nk", unit_rows(taken), right)
            order = np.argsort(-near, axis=1, kind="stable")
            rows[queries] = np.take_along_axis(found, order, axis=1)
            cosines[queries] = np.take_along_axis(near, order, axis=1)
    return rows, cosines, _recall(store, cosines)


def _others(
    index: Index, found: Neighbors, queries: Sequence[str], numbers: Mapping[str, int], k: int
) -> NDArray[np.int64]:
    """The rows of what was found, without the images themselves, ``(n, k)``."""
    out = np.empty((len(queries), k), np.int64)
    for line, (own, names) in enumerate(zip(queries, found.ids, strict=True)):
        others = [name for name in names if name != own][:k]
        if len(others) < k:
            raise IndexMismatchError(
                f"{index.path}: finds fewer than {k} neighbours of {own}: lower k, let it "
                "search deeper, or search without the index"
            )
        for name in others:
            if name not in numbers:
                raise IndexMismatchError(f"{index.path}: holds {name}, which the store doesn't")
        out[line] = [numbers[name] for name in others]
    return out


def _recall(store: EmbeddingStore, cosines: NDArray[np.float32]) -> float:
    """The share of neighbours that are as near as the exact ones, of some images."""
    count, k = cosines.shape
    if not k:
        return 1.0
    drawn = np.sort(np.random.default_rng(0).permutation(count)[:_CHECKED])
    exact = nearest_others(store, k, drawn)[1]
    return float((cosines[drawn] >= exact[:, -1:] - _SAME).mean())
