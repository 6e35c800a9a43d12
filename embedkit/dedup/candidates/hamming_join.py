"""The exact join of perceptual hashes: every pair that differs in few bits.

Two 64-bit hashes that differ in at most b bits are cut into c parts with 2 c > b; then at least one
part differs in at most one bit. So for each part the rows are sorted into buckets by it, and only
rows of the same bucket and of buckets one bit apart are compared.

Source: Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing" (2012).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.errors import EmbedkitError
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["close_hashes", "is_informative"]

_BITS = 64
_PAIRS_AT_ONCE = 2**20  # 32 MiB of row numbers and hashes
_FEWEST_BITS = 8

_RowPairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]


def close_hashes(
    hashes: NDArray[np.uint64],
    max_hamming: int,
    against: NDArray[np.uint64] | None = None,
    max_pairs: int = MAX_PAIRS,
) -> _RowPairs:
    """Finds every pair of hashes that differ in at most ``max_hamming`` bits.

    Fast up to 7 bits; each further bit makes the buckets larger, and from about 20 bits on nearly
    every pair is compared.

    Args:
        hashes: ``(n,)``.
        max_hamming: The most bits, 0 to 64.
        against: ``(m,)`` of the other side; None compares ``hashes`` with each other.
        max_pairs: More are refused; a pair takes 16 bytes.

    Returns:
        ``(P,)`` first and ``(P,)`` second places, sorted; within one side the first is the lower.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    other = hashes if against is None else against
    masks = _parts(max_hamming)
    keys, count = [np.empty(0, np.int64)], 0
    tracked = track(masks, "comparing hashes", len(masks), unit="parts")
    for number, mask in enumerate(tracked):
        for first, second in _neighbors(hashes & mask, other & mask, mask):
            differing = hashes[first] ^ other[second]
            near = np.bitwise_count(differing) <= max_hamming
            if against is None:
                near &= first < second
            near[near] = _is_first(differing[near], masks[:number])
            keys.append(first[near] * len(other) + second[near])
            count += len(keys[-1])
            _refuse_too_many(count, max_pairs, max_hamming)
    first, second = np.divmod(np.sort(np.concatenate(keys)), max(len(other), 1))
    return first, second


def is_informative(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which perceptual hashes are informative, ``(n,)``: those of blank images are all alike.

    A hash has one bit for each coefficient above the median of the 64, so 32 in a photo and next
    to none where most coefficients are 0.
    """
    return np.bitwise_count(hashes) >= _FEWEST_BITS


def _refuse_too_many(count: int, max_pairs: int, max_hamming: int) -> None:
    if count > max_pairs:
        raise EmbedkitError(
            f"more than {max_pairs:,} pairs of perceptual hashes differ in {max_hamming} bits or "
            "fewer: lower max_hamming=..., or leave hashes out with max_hamming=None"
        )


def _is_first(differing: NDArray[np.uint64], earlier: list[np.uint64]) -> NDArray[np.bool_]:
    """Which differences no earlier part has found, so that each pair is found once."""
    first = np.ones(len(differing), np.bool_)
    for mask in earlier:
        first &= np.bitwise_count(differing & mask) > 1
    return first


def _parts(max_hamming: int) -> list[np.uint64]:
    """Masks that cut the 64 bits into parts, one of which differs in at most one bit."""
    count = max_hamming // 2 + 1  # 64 bits in 33 parts: some are single bits
    edges = np.linspace(0, _BITS, count + 1).astype(int).tolist()
    return [np.uint64((1 << end) - (1 << start)) for start, end in pairwise(edges)]


def _neighbors(
    keys: NDArray[np.uint64], other: NDArray[np.uint64], mask: np.uint64
) -> Iterator[_RowPairs]:
    """All places whose keys differ in at most one bit of ``mask``, a bounded number at a time."""
    mine, theirs = np.argsort(keys, kind="stable"), np.argsort(other, kind="stable")
    keys, other = keys[mine], other[theirs]  # in order, so that searches stay in the cache
    single = [np.uint64(1 << bit) for bit in range(_BITS) if int(mask) >> bit & 1]
    for flip in (np.uint64(0), *single):
        begin = np.searchsorted(other, keys ^ flip, "left")
        count = np.searchsorted(other, keys ^ flip, "right") - begin
        for rows in _bounded(count):
            many = count[rows]
            # 0, 1, … within each row's bucket, added to where the bucket begins.
            step = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            yield np.repeat(mine[rows], many), theirs[np.repeat(begin[rows], many) + step]


def _bounded(count: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Row numbers in runs, each with about ``_PAIRS_AT_ONCE`` pairs or a single row."""
    rows = np.flatnonzero(count)
    total = np.cumsum(count[rows])
    start = 0
    while start < len(rows):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + _PAIRS_AT_ONCE, "right")), start + 1)
        yield rows[start:stop]
        start = stop
