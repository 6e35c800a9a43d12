"""Collects candidate pairs: equal content, near embeddings, near perceptual hashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.hamming_join import close_hashes
from embedkit.dedup.candidates.representatives import expand_to_members
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput

__all__ = ["Candidates", "ThresholdJoin", "find_candidates"]


class ThresholdJoin(Protocol):
    """Finds the pairs of rows whose cosine reaches a threshold; see ``exact_join``."""

    def __call__(
        self, rows: UnitRows, *, against: UnitRows | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Returns ``(P,)`` row numbers of both sides, and cosines."""


@dataclass(frozen=True)
class Candidates:
    """Pairs to score; a pair is there once for each view that it was found by.

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

    def where(self, kept: NDArray[np.bool_]) -> Candidates:
        """Some of them, ``kept`` is ``(P,)`` bool."""
        return Candidates(self.first[kept], self.second[kept], self.view[kept])


def find_candidates(
    left: DedupInput,
    right: DedupInput | None,
    joins: Sequence[ThresholdJoin],
    max_hamming: int | None,
    views: Sequence[NDArray[np.floating]] = (),
    max_pairs: int = MAX_PAIRS,
) -> Candidates:
    """Collects the pairs that any of the searches finds.

    Args:
        left: The store.
        right: The store that it is compared with; None compares it with itself.
        joins: Searches of near embeddings.
        max_hamming: The most differing bits of perceptual hashes; None leaves these out.
        views: ``(N, D)`` embeddings each, of the store's images mirrored or turned.
        max_pairs: More pairs of near perceptual hashes are refused.

    Raises:
        EmbedkitError: There are more.
    """
    parts = [_table(_equal(left, right), 0)]
    if max_hamming is not None:
        parts.append(_table(_near_hashes(left, right, max_hamming, max_pairs), 0))
    for join in joins:
        parts.append(_table(_near_embeddings(join, left, right), 0))
        for number, view in enumerate(views, 1):
            parts += _near_views(join, left, right, view, number)
    table = np.unique(np.concatenate(parts), axis=0)
    return Candidates(*(np.ascontiguousarray(column) for column in table.T))


def _table(pairs: NDArray[np.int64], view: int) -> NDArray[np.int64]:
    return np.column_stack([pairs, np.full(len(pairs), view)])


def _equal(left: DedupInput, right: DedupInput | None) -> NDArray[np.int64]:
    """``(P, 2)`` pairs of equal content; within one store also of equal embedding or hash."""
    mine = left.exact_content
    if right is None:
        return np.concatenate([mine.copies, left.equal_embedding.copies, left.equal_hash.copies])
    theirs = right.exact_content
    _, first, second = np.intersect1d(
        left.contents[mine.rows], right.contents[theirs.rows], assume_unique=True,
        return_indices=True,
    )  # fmt: skip
    pairs = np.stack([mine.rows[first], theirs.rows[second]], axis=1)
    return expand_to_members(pairs, mine, theirs)


def _near_embeddings(
    join: ThresholdJoin, left: DedupInput, right: DedupInput | None
) -> NDArray[np.int64]:
    """``(P, 2)`` pairs; within one store of representatives, as ``_equal`` pairs their members."""
    first, second, _ = join(left.distinct, against=None if right is None else right.distinct)
    pairs = np.stack([first, second], axis=1)
    if right is None:
        return pairs
    return expand_to_members(pairs, left.equal_embedding, right.equal_embedding)


def _near_views(
    join: ThresholdJoin,
    left: DedupInput,
    right: DedupInput | None,
    view: NDArray[np.floating],
    number: int,
) -> list[NDArray[np.int64]]:
    """``(P, 3)`` pairs of a view's row and a row; within one store the lower row first."""
    other = left if right is None else right
    first, second, _ = join(UnitRows(view, left.distinct.numbers), against=other.distinct)
    pairs = np.stack([first, second], axis=1)
    if right is not None:
        expanded = expand_to_members(pairs, left.equal_embedding, right.equal_embedding)
        return [_table(expanded, number)]
    upper, lower = pairs[first < second], pairs[first > second]
    return [_table(upper, number), _table(lower[:, ::-1], -number)]


def _near_hashes(
    left: DedupInput, right: DedupInput | None, max_hamming: int, max_pairs: int
) -> NDArray[np.int64]:
    """``(P, 2)`` pairs of perceptual hashes that differ in few bits."""
    mine = left.equal_hash.rows
    if right is None:
        first, second = close_hashes(left.hashes[mine], max_hamming, None, max_pairs)
        return np.stack([mine[first], mine[second]], axis=1)
    theirs = right.equal_hash.rows
    first, second = close_hashes(left.hashes[mine], max_hamming, right.hashes[theirs], max_pairs)
    pairs = np.stack([mine[first], theirs[second]], axis=1)
    return expand_to_members(pairs, left.equal_hash, right.equal_hash)
