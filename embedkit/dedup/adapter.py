"""Pairs from the exact search of ``find_duplicates``, and between two stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates import cosines
from embedkit.dedup.find import find_duplicates
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.store import EmbeddingStore
from embedkit.vectors import unit_rows

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["pairs_between", "pairs_within"]

_ROWS = 2048


def pairs_within(store: str | os.PathLike[str], threshold: float = 0.95) -> Pairs:
    """The pairs of ``find_duplicates``; a score is the cosine or the share of equal hash bits."""
    found = find_duplicates(store, threshold=threshold)
    with EmbeddingStore.open(store) as opened:
        hashes, phashes = opened.images("content_hash"), opened.images("phash").astype(np.uint64)
        first, second = found.pairs[:, 0], found.pairs[:, 1]
        cosine = np.minimum(cosines(opened, found.pairs), 1)
        rows = len(opened)
    exact = (hashes[first] == hashes[second]).all(axis=1)
    hamming = np.bitwise_count(phashes[first] ^ phashes[second])
    return _make(first, second, cosine, hamming, exact, PairsInfo(threshold, rows=rows))


def pairs_between(
    store: str | os.PathLike[str], against: str | os.PathLike[str], threshold: float = 0.95
) -> Pairs:
    """Every pair between two stores of equal bytes, or of a cosine of ``threshold`` or more."""
    with EmbeddingStore.open(store) as one, EmbeddingStore.open(against) as other:
        right = unit_rows(other.to_numpy())
        hashes = [s.images("content_hash") for s in (one, other)]
        phashes = [s.images("phash").astype(np.uint64) for s in (one, other)]
        found = [np.empty((0, 2), np.int64)]
        for start in range(0, len(one), _ROWS):
            left = unit_rows(one.embeddings[start : start + _ROWS])
            wanted = left @ right.T >= threshold
            for row, digest in enumerate(hashes[0][start : start + _ROWS]):
                wanted[row] |= (hashes[1] == digest).all(axis=1)
            found.append(np.argwhere(wanted) + np.array([start, 0]))
        first, second = np.concatenate(found).T.copy()
        left = unit_rows(one.embeddings[first])
        cosine = np.minimum(np.einsum("nd,nd->n", left, right[second]), 1)
        info = PairsInfo(threshold, rows=len(one), against_rows=len(other))
    exact = (hashes[0][first] == hashes[1][second]).all(axis=1)
    hamming = np.bitwise_count(phashes[0][first] ^ phashes[1][second])
    return _make(first, second, cosine, hamming, exact, info)


def _make(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    cosine: NDArray[np.float32],
    hamming: NDArray[np.uint8],
    exact: NDArray[np.bool_],
    info: PairsInfo,
) -> Pairs:
    score = np.where(exact, 1, np.maximum(cosine, 1 - hamming / 64)).astype(np.float32)
    pairs = Pairs(
        first,
        second,
        score.clip(0, 1),
        cosine.astype(np.float32),
        hamming.astype(np.uint8),
        exact,
        np.full(len(first), -1, np.int8),
        info,
    )
    return pairs.where(pairs.score >= np.float32(info.threshold))
