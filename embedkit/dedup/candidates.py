"""Which pairs of images may be copies: by equal keys, by cosine, by perceptual hash.

All of it is exact, and goes block by block over the upper half of the matrix of all pairs, so that
memory is bounded by two blocks of rows and by the pairs that are found.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["close_hashes", "cosines", "equal_keys", "is_telling", "similar_rows"]

_GEMM_ROWS = 2048  # two blocks of 2048 values are 32 MiB as float32, their cosines 16 MiB
_HASH_ROWS = 2048  # the XOR of two blocks is 32 MiB
_GATHER_ROWS = 4096
_FEWEST_BITS = 8


def equal_keys(
    keys: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Joins rows of equal keys to the first one of them, so that n copies are n - 1 pairs.

    Args:
        keys: ``(n,)`` of any dtype that sorts, a key for each of ``rows``.
        rows: ``(n,)`` row numbers, ascending.

    Returns:
        ``(P, 2)`` pairs (first row, copy), and ``(m,)`` the rows with the copies left out.
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    origin = rows[first[inverse.reshape(-1)]]
    copies = origin != rows
    return np.stack([origin[copies], rows[copies]], axis=1), rows[~copies]


def similar_rows(
    store: EmbeddingStore, rows: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Finds every pair whose cosine is at least ``threshold``.

    Args:
        store: The embeddings; they need not be normalised.
        rows: ``(n,)`` the rows to compare, ascending.
        threshold: The least cosine.

    Returns:
        ``(P, 2)`` pairs, the lower row first, and ``(P,)`` cosines, to float32 precision.
    """
    pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    last: tuple[int, NDArray[np.float32]] | None = None
    for a, b in _upper_blocks(len(rows), _GEMM_ROWS):
        if last is None or last[0] != a.start:
            last = a.start, unit_rows(store.embeddings[rows[a]])
        left = last[1]
        right = left if a == b else unit_rows(store.embeddings[rows[b]])
        cosine = left @ right.T
        i, j = _above_diagonal(cosine >= threshold, diagonal=a == b)
        pairs.append(np.stack([rows[a][i], rows[b][j]], axis=1))
        scores.append(cosine[i, j])
    return np.concatenate(pairs), np.concatenate(scores)


def close_hashes(
    hashes: NDArray[np.uint64], rows: NDArray[np.int64], max_hamming: int
) -> NDArray[np.int64]:
    """Finds every pair of hashes that differ in at most ``max_hamming`` bits.

    Args:
        hashes: ``(n,)`` a hash for each of ``rows``.
        rows: ``(n,)`` row numbers, ascending.
        max_hamming: The most bits, 0 to 64.

    Returns:
        ``(P, 2)`` pairs, the lower row first.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for a, b in _upper_blocks(len(rows), _HASH_ROWS):
        distance = np.bitwise_count(hashes[a][:, None] ^ hashes[b][None, :])
        i, j = _above_diagonal(distance <= max_hamming, diagonal=a == b)
        pairs.append(np.stack([rows[a][i], rows[b][j]], axis=1))
    return np.concatenate(pairs)


def is_telling(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which perceptual hashes say something: those of blank images all look alike.

    A hash has one bit for each coefficient above the median of the 64, so 32 in a photo and next
    to none where most coefficients are 0.
    """
    return np.bitwise_count(hashes) >= _FEWEST_BITS


def cosines(store: EmbeddingStore, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """The cosine of each pair of rows, ``(P, 2)`` to ``(P,)``."""
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _GATHER_ROWS):
        part = pairs[start : start + _GATHER_ROWS]
        left, right = (unit_rows(store.embeddings[part[:, side]]) for side in (0, 1))
        out[start : start + len(part)] = np.einsum("nd,nd->n", left, right)
    return out


def _upper_blocks(count: int, size: int) -> Iterator[tuple[slice, slice]]:
    """The blocks on and above the diagonal of a ``count`` x ``count`` matrix, row by row."""
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    yield from combinations_with_replacement(blocks, 2)


def _above_diagonal(
    wanted: NDArray[np.bool_], *, diagonal: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where ``wanted`` is true; in a block on the diagonal each pair once, and none with itself."""
    i, j = np.nonzero(np.triu(wanted, 1) if diagonal else wanted)
    return i, j
