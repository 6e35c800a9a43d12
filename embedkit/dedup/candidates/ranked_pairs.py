"""Candidates in the order of how likely they are copies, by ranks and cosines.

A cosine that fits a store of landscapes is far too low for one of portraits. So the nearest images
of each image are taken, a bounded number anywhere, both as stored and whitened. A pair comes the
earlier the nearer it is whitened, and the fewer images are nearer to one of its two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.dedup.candidates.neighbours import EXACT_ROWS, nearest, vectors_of
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Candidates
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.config import DedupConfig
    from embedkit.dedup.scoring.background import Whitening

    Ints = NDArray[np.int64]
    Rows = NDArray[np.float32]
    Finder = Callable[[UnitRows, UnitRows, int, Whitening | None], tuple[Ints, Rows]]

__all__ = ["RankedPairs", "rank_candidates"]

_NEAREST_OF_VIEW = 10
_OF_COSINE = 10.0  # a whitened cosine higher by 0.1 makes up for three times the rank
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class RankedPairs:
    """Candidates, the likeliest first, each once.

    Attributes:
        first: ``(P,)`` rows of the store.
        second: ``(P,)`` rows of the other store; of the same one the higher ones.
    """

    first: Ints
    second: Ints

    def where(self, kept: NDArray[np.bool_]) -> RankedPairs:
        """Some of them, ``kept`` is ``(P,)`` bool."""
        return RankedPairs(self.first[kept], self.second[kept])


class _Listed(NamedTuple):
    """Pairs, and how unlikely each is; the same pair may be there several times."""

    first: Ints
    second: Ints
    unlikely: NDArray[np.float32]


class _Query(NamedTuple):
    """Images whose nearest ones are looked for among others."""

    rows: UnitRows
    others: UnitRows
    nearest: int
    is_back: bool = False


def rank_candidates(
    left: DedupInput,
    right: DedupInput | None,
    whitening: Whitening,
    known: Candidates,
    config: DedupConfig,
    *,
    views: Sequence[NDArray[np.floating]] = (),
    finder: Finder | None = None,
) -> RankedPairs:
    """The nearest images of each image, as stored and whitened, and all pairs known otherwise.

    Args:
        left: The store.
        right: The store that it is compared with; None compares it with itself.
        whitening: Learnt on the store's background set.
        known: Pairs of equal bytes or embeddings, or of near perceptual hashes.
        config: How many of the nearest are taken, their least cosine, and whether exactly.
        views: ``(N, D)`` embeddings each, of the store's images mirrored or turned.
        finder: Finds the nearest rows where these are more than are searched exactly; None does
            so in this process.
    """
    mine = left.distinct
    theirs = mine if right is None else right.distinct
    count = max(round(config.candidates_per_image), 1)
    queries = [_Query(mine, theirs, count)]
    if right is not None:
        queries.append(_Query(theirs, mine, count, is_back=True))
    queries += [_Query(UnitRows(v, mine.numbers), theirs, _NEAREST_OF_VIEW) for v in views]
    exact = {"exact": True, "approximate": False}.get(config.mode)
    listed = [_known(known, mine, theirs, whitening)]
    for query in queries:
        is_same = query.rows is query.others
        find = partial(_nearest, query, is_same=is_same, exact=exact, finder=finder)
        found, cosines = find(whitening)
        listed.append(_listed(query, found, cosines))
        # A pair that isn't among them has at most the least cosine of them.
        least = np.broadcast_to(cosines[:, -1:], cosines.shape)
        found, cosines = find(None)
        if config.min_cosine is not None:
            found[cosines < config.min_cosine] = -1
        listed.append(_listed(query, found, least))
    return _once(listed, is_same=right is None)


def _known(known: Candidates, mine: UnitRows, theirs: UnitRows, whitening: Whitening) -> _Listed:
    """Pairs known otherwise, as if nearest to each other; those of equal bytes come first."""
    unlikely = np.full(len(known), -np.inf, np.float32)
    at, at_other = (
        np.searchsorted(rows.numbers, numbers).clip(max=max(len(rows) - 1, 0))
        for rows, numbers in ((mine, known.first), (theirs, known.second))
    )
    distinct = np.flatnonzero(
        (mine.numbers[at] == known.first) & (theirs.numbers[at_other] == known.second)
    ) if len(known) else np.empty(0, np.int64)  # fmt: skip
    for start in range(0, len(distinct), _PAIRS_AT_ONCE):
        part = distinct[start : start + _PAIRS_AT_ONCE]
        sides = whitening.apply(mine.take(at[part])), whitening.apply(theirs.take(at_other[part]))
        unlikely[part] = -_OF_COSINE * np.einsum("ij,ij->i", *sides)
    return _Listed(known.first, known.second, unlikely)


def _nearest(
    query: _Query,
    whitening: Whitening | None,
    *,
    is_same: bool,
    exact: bool | None,
    finder: Finder | None,
) -> tuple[Ints, Rows]:
    """``(n, count)`` places among the others, -1 where there are no more; and the cosines."""
    if finder is not None and len(query.others) > EXACT_ROWS:
        found, cosines = finder(query.rows, query.others, query.nearest + is_same, whitening)
    else:
        others = vectors_of(query.others, whitening)
        rows = others if is_same else vectors_of(query.rows, whitening)
        found, cosines = nearest(rows, others, query.nearest + is_same, exact=exact)
    if not is_same:
        return found, cosines
    own = found == np.arange(len(found))[:, None]  # each row is its own nearest one
    own[~own.any(axis=1), -1] = True
    shape = len(found), query.nearest
    return found[~own].reshape(shape), cosines[~own].reshape(shape)


def _listed(query: _Query, found: Ints, cosines: Rows) -> _Listed:
    there = found >= 0
    row, rank = np.nonzero(there)
    sides = query.rows.numbers[row], query.others.numbers[found[there]]
    unlikely = np.log1p(rank) - _OF_COSINE * cosines[there]
    return _Listed(*(sides[::-1] if query.is_back else sides), unlikely.astype(np.float32))


def _once(listed: Sequence[_Listed], *, is_same: bool) -> RankedPairs:
    """Each pair at its likeliest, the likeliest first."""
    first, second, unlikely = (np.concatenate(part) for part in zip(*listed, strict=True))
    if is_same:
        first, second = np.minimum(first, second), np.maximum(first, second)
        apart = first < second
        first, second, unlikely = first[apart], second[apart], unlikely[apart]
    order = np.lexsort((unlikely, second, first))
    first, second, unlikely = first[order], second[order], unlikely[order]
    once = np.append(True, (np.diff(first) != 0) | (np.diff(second) != 0))[: len(first)]
    order = np.flatnonzero(once)[np.argsort(unlikely[once], kind="stable")]
    return RankedPairs(first[order], second[order])
