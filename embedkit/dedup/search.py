"""Finding the pairs of copies within a store, or between two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates import equal_keys
from embedkit.dedup.find import find_duplicates
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.vectors import first_not_finite, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["find_pairs"]

_THRESHOLD = 0.95
_ROWS = 2048


def find_pairs(
    store: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
) -> Pairs:
    """Finds the pairs of images that are copies of each other.

    A pair's score is 1 for equal bytes, else the cosine or the share of equal bits of the
    perceptual hashes, whichever is higher. Within one store the pairs are those of
    ``find_duplicates``: n equal images are n - 1 pairs. Between two they are those of equal bytes
    and those whose cosine reaches the threshold: n images of equal bytes in one store and m in the
    other are n + m - 1 pairs, each with the first of the other store.

    Args:
        store: A store file or folder.
        against: Another store of the same backbone: pairs between the two instead of within one.
        threshold: The least score, above 0 and at most 1; None is 0.95.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The two stores were embedded otherwise.
        ValueError: The threshold is out of its range.
    """
    threshold = _THRESHOLD if threshold is None else threshold
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    if against is None:
        found = find_duplicates(store, threshold=threshold)
        with EmbeddingStore.open(store) as opened:
            return _score(found.pairs, opened, opened, PairsInfo(threshold, rows=len(opened)))
    with EmbeddingStore.open(store) as one, EmbeddingStore.open(against) as other:
        differences = one.meta.differences(other.meta)
        if differences:
            raise StoreMismatchError(str(other.path), differences)
        info = PairsInfo(threshold, rows=len(one), against_rows=len(other))
        return _score(_pairs_between(one, other, threshold), one, other, info)


def _pairs_between(
    one: EmbeddingStore, other: EmbeddingStore, threshold: float
) -> NDArray[np.int64]:
    """``(P, 2)`` rows of both stores, in order."""
    hashes = [_contents(store) for store in (one, other)]
    copies, left = equal_keys(hashes[0], np.arange(len(one)))
    others, right = equal_keys(hashes[1], np.arange(len(other)))
    _, i, j = np.intersect1d(
        hashes[0][left], hashes[1][right], assume_unique=True, return_indices=True
    )
    found = [np.stack([left[i], right[j]], axis=1)]
    for a, here in _blocks(one, left):
        for b, there in _blocks(other, right):
            near = np.argwhere(here @ there.T >= threshold)
            found.append(np.stack([a[near[:, 0]], b[near[:, 1]]], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)
    turned = _repeat(pairs[np.lexsort(pairs.T)][:, ::-1], others)[:, ::-1]
    return np.unique(np.concatenate([pairs, _repeat(pairs, copies), turned]), axis=0)


def _contents(store: EmbeddingStore) -> NDArray[np.void]:
    """``(N,)`` content hashes, each one value that sorts."""
    return np.ascontiguousarray(store.images("content_hash")).view("V32").reshape(-1)


def _blocks(
    store: EmbeddingStore, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Some rows at a time, and their embeddings of unit length; a zero one stays zero."""
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        embeddings = store.embeddings[part]
        bad = first_not_finite(embeddings)
        if bad is not None:
            raise StoreError(
                f"{store.path}: the embedding of {store.ids[int(part[bad])]} isn't finite"
            )
        yield part, unit_rows(embeddings)


def _repeat(pairs: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs that copies of first rows make.

    Args:
        pairs: ``(P, 2)``, sorted by the first column.
        copies: ``(C, 2)`` first rows, and what equals them.
    """
    begin, end = (np.searchsorted(pairs[:, 0], copies[:, 0], side) for side in ("left", "right"))
    many = end - begin
    step = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    seconds = pairs[np.repeat(begin, many) + step, 1]
    return np.stack([np.repeat(copies[:, 1], many), seconds], axis=1)


def _cosines(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    one: EmbeddingStore,
    other: EmbeddingStore,
) -> NDArray[np.float32]:
    out = np.empty(len(first), np.float32)
    for start in range(0, len(first), _ROWS):
        part = slice(start, start + _ROWS)
        left = unit_rows(one.embeddings[first[part]])
        right = unit_rows(other.embeddings[second[part]])
        out[part] = np.einsum("nd,nd->n", left, right)
    return out


def _score(
    rows: NDArray[np.int64], one: EmbeddingStore, other: EmbeddingStore, info: PairsInfo
) -> Pairs:
    first, second = np.ascontiguousarray(rows.T)
    hamming = np.bitwise_count(
        one.images("phash").astype(np.uint64)[first]
        ^ other.images("phash").astype(np.uint64)[second]
    )
    exact = _contents(one)[first] == _contents(other)[second]
    cosine = np.minimum(_cosines(first, second, one, other), 1)
    score = np.where(exact, 1, np.maximum(cosine, 1 - hamming / 64)).astype(np.float32)
    pairs = Pairs(
        first,
        second,
        score.clip(0, 1),
        cosine,
        hamming,
        exact,
        np.full(len(first), -1, np.int8),
        info,
    )
    return pairs.where(pairs.score >= np.float32(info.threshold))
