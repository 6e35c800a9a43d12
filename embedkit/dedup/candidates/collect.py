"""Pairs that may be copies: of equal bytes, of near embeddings, of near perceptual hashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.hamming_join import close_hashes
from embedkit.dedup.candidates.representatives import spread
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import Origins, Side

__all__ = ["Candidates", "Joiner", "find_candidates"]


class Joiner(Protocol):
    """Finds pairs of near embeddings, as ``join_rows`` does."""

    def __call__(
        self, rows: UnitRows, *, against: UnitRows | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Row numbers of both sides, and cosines."""


@dataclass(frozen=True)
class Candidates:
    """Pairs that are to be scored; a pair is there once for each view that it was found by.

    Attributes:
        first: ``(P,)`` int64 rows.
        second: ``(P,)`` int64 rows, of the same store the higher ones.
        view: ``(P,)`` int64: 0 compares the images as they are, ``n`` the n-th view of the first
            one's image with the second, ``-n`` the n-th view of the second one's with the first.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    view: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def find_candidates(
    left: Side,
    right: Side | None,
    joins: Sequence[Joiner],
    max_hamming: int | None,
    views: Sequence[NDArray[np.floating]] = (),
    max_pairs: int = MAX_PAIRS,
) -> Candidates:
    """Collects the pairs.

    Args:
        left: The store.
        right: The store that it is compared with; None compares it with itself.
        joins: Find pairs of near embeddings; what one of them finds is looked at.
        max_hamming: The most differing bits; None leaves the perceptual hashes out.
        views: ``(N, D)`` embeddings of the store's images, mirrored or turned.
        max_pairs: More pairs of near perceptual hashes are refused.
    """
    parts = [_table(pairs, 0) for pairs in _equal(left, right)]
    rows, other = left.distinct, None if right is None else right.distinct
    for join in joins:
        found = _pairs(join(rows, against=other))
        parts.append(_table(_spread(found, left, right, "by_embedding"), 0))
        for number, view in enumerate(views, 1):
            seen = _pairs(join(UnitRows(view, rows.numbers), against=other or rows))
            parts += _seen(seen, left, right, number)
    if max_hamming is not None:
        parts.append(_table(_close(left, right, max_hamming, max_pairs), 0))
    table = np.unique(np.concatenate(parts), axis=0)
    return Candidates(*(np.ascontiguousarray(column) for column in table.T))


def _pairs(found: tuple[NDArray[np.int64], NDArray[np.int64], object]) -> NDArray[np.int64]:
    return np.stack(found[:2], axis=1)


def _table(pairs: NDArray[np.int64], view: int) -> NDArray[np.int64]:
    return np.column_stack([pairs, np.full(len(pairs), view)])


def _spread(pairs: NDArray[np.int64], left: Side, right: Side | None, by: str) -> NDArray[np.int64]:
    """Within one store the copies are pairs of their own; between two each is named."""
    if right is None:
        return pairs
    mine: Origins = getattr(left, by)
    return spread(pairs, mine, getattr(right, by))


def _equal(left: Side, right: Side | None) -> list[NDArray[np.int64]]:
    """Pairs of rows that equal each other in bytes, in embedding or in perceptual hash."""
    if right is None:
        return [left.by_bytes.copies, left.by_embedding.copies, left.by_hash.copies]
    mine, theirs = left.by_bytes.rows, right.by_bytes.rows
    _, first, second = np.intersect1d(
        left.contents[mine], right.contents[theirs], assume_unique=True, return_indices=True
    )
    pairs = np.stack([mine[first], theirs[second]], axis=1)
    return [_spread(pairs, left, right, "by_bytes")]


def _close(left: Side, right: Side | None, max_hamming: int, max_pairs: int) -> NDArray[np.int64]:
    mine = left.by_hash.rows
    theirs = mine if right is None else right.by_hash.rows
    other = None if right is None else right.hashes[theirs]
    first, second = close_hashes(left.hashes[mine], max_hamming, other, max_pairs)
    return _spread(np.stack([mine[first], theirs[second]], axis=1), left, right, "by_hash")


def _seen(
    pairs: NDArray[np.int64], left: Side, right: Side | None, number: int
) -> list[NDArray[np.int64]]:
    """Pairs of a view's row and a row; within one store the lower row first, none with itself."""
    if right is not None:
        return [_table(_spread(pairs, left, right, "by_embedding"), number)]
    upper, lower = pairs[pairs[:, 0] < pairs[:, 1]], pairs[pairs[:, 0] > pairs[:, 1]]
    return [_table(upper, number), _table(lower[:, ::-1], -number)]
