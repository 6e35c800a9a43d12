"""Finds copies whose pixels agree: candidates by rank, compared until the groups are known."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.neighbours import nearest, rank_pairs
from embedkit.dedup.pairs import NOT_VERIFIED, SAME_SCENE, Pairs
from embedkit.dedup.scoring.features import hamming_distances
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.pixel_model import FIRST_PRIOR, pixel_odds, prior_of, scene_odds
from embedkit.dedup.unit_rows import UnitRows
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.forest import implied_pairs, verify_forest
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Candidates
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.config import DedupConfig, What
    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.scoring.background import Whitening
    from embedkit.dedup.verification.batch import Pixels
    from embedkit.dedup.verification.compared_pairs import ComparedPairs
    from embedkit.dedup.verification.forest import Verified
    from embedkit.dedup.verification.geometric import Evidence

    Ints = NDArray[np.int64]

__all__ = ["RankedPairs", "rank_candidates", "verify_candidates"]

_NEAREST_OF_VIEW = 10
_ODDS = {"copies": pixel_odds, "scenes": scene_odds}
_FEWEST_FOLLOWING = 20  # pairs that the recall of candidates is measured on
_log = logging.getLogger("embedkit")


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


def rank_candidates(
    left: DedupInput,
    right: DedupInput | None,
    whitening: Whitening,
    known: Candidates,
    config: DedupConfig,
    *,
    views: Sequence[NDArray[np.floating]] = (),
) -> RankedPairs:
    """The nearest images of each image, as stored and whitened, after all pairs known otherwise.

    Args:
        left: The store.
        right: The store that it is compared with; None compares it with itself.
        whitening: Learnt on the store's background set.
        known: Pairs of equal bytes or embeddings, or of near perceptual hashes.
        config: How many of the nearest are taken, their least cosine, and whether exactly.
        views: ``(N, D)`` embeddings each, of the store's images mirrored or turned.
    """
    mine, theirs = left.distinct, (right or left).distinct
    search = _Neighbours(mine, None if right is None else theirs, config)
    tables = [np.column_stack([known.first, known.second, np.zeros(len(known), np.int64)])]
    for apply in (None, whitening):
        rows = _vectors(mine, apply)
        others = rows if right is None else _vectors(theirs, apply)
        least = config.min_cosine if apply is None else None
        tables.append(search.of_images(rows, others, least))
        tables += [
            search.of_view(_vectors(UnitRows(view, mine.numbers), apply), others) for view in views
        ]
    table = np.concatenate(tables)
    if right is None:
        table[:, :2].sort(axis=1)
        table = table[table[:, 0] < table[:, 1]]
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
    once = np.append(True, (np.diff(table[:, :2], axis=0) != 0).any(axis=1))[: len(table)]
    table = table[once]
    table = table[np.argsort(table[:, 2], kind="stable")]
    return RankedPairs(table[:, 0].copy(), table[:, 1].copy())


class _Neighbours:
    """Finds the nearest rows of each row, and ranks the pairs.

    Args:
        mine: Which rows of the store are compared.
        theirs: Which of the other store; None compares the rows with each other.
        config: The settings.
    """

    def __init__(self, mine: UnitRows, theirs: UnitRows | None, config: DedupConfig) -> None:
        self._mine, self._theirs = mine.numbers, (theirs or mine).numbers
        self._is_same = theirs is None
        self._count = max(round(config.candidates_per_image), 1)
        self._exact = {"exact": True, "approximate": False}.get(config.mode)

    def of_images(
        self, rows: NDArray[np.float32], others: NDArray[np.float32], least: float | None
    ) -> Ints:
        """``(P, 3)`` row, row of the other store, and the sum of both ranks."""
        found = self._nearest(rows, others, least)
        back = None if self._is_same else self._nearest(others, rows, least)
        return self._table(*rank_pairs(found, back))

    def of_view(self, rows: NDArray[np.float32], others: NDArray[np.float32]) -> Ints:
        """The same of the images mirrored or turned, ranked from their side only."""
        found, _ = nearest(rows, others, _NEAREST_OF_VIEW, exact=self._exact)
        nothing = np.empty((len(others), 0), np.int64)
        return self._table(*rank_pairs(found, nothing))

    def _nearest(
        self, rows: NDArray[np.float32], others: NDArray[np.float32], least: float | None
    ) -> Ints:
        found, cosines = nearest(rows, others, self._count + self._is_same, exact=self._exact)
        if least is not None:
            found[cosines < least] = -1
        if not self._is_same:
            return found
        own = found == np.arange(len(found))[:, None]  # each row is its own nearest one
        own[~own.any(axis=1), -1] = True
        return np.asarray(found[~own].reshape(len(found), self._count))

    def _table(self, pairs: Ints, ranks: Ints) -> Ints:
        return np.column_stack([self._mine[pairs[:, 0]], self._theirs[pairs[:, 1]], ranks])


def _vectors(rows: UnitRows, whitening: Whitening | None) -> NDArray[np.float32]:
    parts = (part if whitening is None else whitening.apply(part) for _, part in rows.parts())
    taken = [np.asarray(part, np.float32) for part in parts]
    return np.concatenate(taken) if taken else np.empty((0, max(rows.dim, 1)), np.float32)


def verify_candidates(
    left: DedupInput,
    right: DedupInput | None,
    ranked: RankedPairs,
    info: PairsInfo,
    readers: tuple[Pixels, Pixels],
    *,
    what: What = "copies",
    backwards: bool = False,
    compared: ComparedPairs | None = None,
) -> Pairs:
    """Compares candidates on their pixels, and scores them.

    Args:
        left: The store.
        right: The other store; None for pairs within the one.
        ranked: The candidates.
        info: How they were found.
        readers: Give the pixels of the images of the store, and of the other one.
        what: Whether other photographs of one scene are pairs, too.
        backwards: Whether ``Pairs.how`` says how the first was made from the second instead.
        compared: Keeps what is compared, for a run that goes on with an interrupted one.

    Returns:
        The pairs that were compared, and those that follow from them, whatever their scores.
    """
    other, offset = right or left, 0 if right is None else len(left)
    second = ranked.second + offset
    exact = left.contents[ranked.first] == other.contents[ranked.second]
    same = _pairs(ranked.first[exact], second[exact])
    names = _Names(left, right)

    def pixels(image: int) -> NDArray[np.uint8]:
        return readers[image >= offset if right is not None else 0](names[image])

    with PairComparer(pixels, usable_cores(), backwards=backwards) as compare:
        found = verify_forest(
            _pairs(ranked.first[~exact], second[~exact]), same,
            compare if compared is None else compared.kept(compare), partial(_judge, what),
            len(left) + (0 if right is None else len(other)),
        )  # fmt: skip
    return _scored(found, same, left, right, ranked, info)


def _judge(what: What, evidence: Sequence[Evidence]) -> NDArray[np.float64]:
    """Log-odds for now: with the prior that is assumed before all are known."""
    odds = _ODDS[what](evidence) + FIRST_PRIOR
    return np.asarray(np.where(np.isnan(odds), -np.inf, odds))


def _pairs(first: Ints, second: Ints) -> list[tuple[int, int]]:
    return list(zip(first.tolist(), second.tolist(), strict=True))


class _Names(dict[int, str]):
    """Ids by image number, all read in one pass: a single one takes as long as thousands."""

    def __init__(self, left: DedupInput, right: DedupInput | None) -> None:
        super().__init__(enumerate(left.store.ids))
        if right is not None:
            self.update(enumerate(right.store.ids, len(left)))


def _scored(
    found: Verified,
    same: Sequence[tuple[int, int]],
    left: DedupInput,
    right: DedupInput | None,
    ranked: RankedPairs,
    info: PairsInfo,
) -> Pairs:
    _warn(found)
    pairs = [pair for pair, odds in found.odds.items() if np.isfinite(odds)]
    odds = np.array([found.odds[pair] for pair in pairs], np.float64) - FIRST_PRIOR
    prior = prior_of(odds)
    compared = dict(zip(pairs, (odds + prior).tolist(), strict=True))
    copies = _copies(found, compared, prior)
    implied = implied_pairs({pair: compared[pair] for pair in copies}, same)
    table = {
        pair: (value, int(pair in copies) if pair in copies or value <= 0 else SAME_SCENE)
        for pair, value in compared.items()
    }
    table |= {pair: (value, NOT_VERIFIED) for pair, value in implied.items()}
    table |= dict.fromkeys(same, (np.inf, NOT_VERIFIED))
    split = len(left)
    info = replace(info, candidate_recall=_share_among(ranked, implied, left, right))
    if right is not None:  # only pairs of the two
        table = {pair: value for pair, value in table.items() if pair[0] < split <= pair[1]}
    keys = sorted(table)
    first, second = (np.array(side, np.int64) for side in zip(*keys, strict=True)) if keys else (
        np.empty(0, np.int64), np.empty(0, np.int64)
    )  # fmt: skip
    second = second - (0 if right is None else split)
    other = right or left
    exact = left.contents[first] == other.contents[second]
    values = np.array([table[key][0] for key in keys], np.float64)
    score = np.where(exact, 1, probability(values)).astype(np.float32)
    how = [
        dict(one.how) if table[key][1] > 0 and (one := found.evidence.get(key)) else {}
        for key in keys
    ]
    return Pairs(
        first, second, score,
        np.clip(left.rows.cosines(first, other.rows, second), -1, 1).astype(np.float32),
        hamming_distances(left.hashes[first], other.hashes[second]), exact,
        np.array([table[key][1] for key in keys], np.int8), info, how,
    )  # fmt: skip


def _copies(
    found: Verified, compared: Mapping[tuple[int, int], float], prior: float
) -> set[tuple[int, int]]:
    """Those of the compared pairs that are copies, not only of one scene."""
    linked = [pair for pair, value in compared.items() if value > 0]
    evidence = [one for pair in linked if (one := found.evidence[pair]) is not None]
    odds = pixel_odds(evidence) if evidence else np.empty(0)
    return {pair for pair, value in zip(linked, odds.tolist(), strict=True) if value + prior > 0}


def _share_among(
    ranked: RankedPairs,
    implied: Mapping[tuple[int, int], float],
    left: DedupInput,
    right: DedupInput | None,
) -> float | None:
    """The share of pairs that follow from others which are candidates; None of too few."""
    split = len(left)
    pairs = [one for one in implied if right is None or one[0] < split <= one[1]]
    if len(pairs) < _FEWEST_FOLLOWING:
        return None
    images = split + (0 if right is None else len(right))
    keys = ranked.first * images + ranked.second + (0 if right is None else split)
    following = np.array([first * images + second for first, second in pairs], np.int64)
    return float(np.isin(following, keys, kind="sort").mean())


def _warn(found: Verified) -> None:
    unread = sum(one is None for one in found.evidence.values())
    vague = sum(not np.isfinite(odds) for odds in found.odds.values())
    if unread:
        _log.warning(
            "%s of %s pairs can't be verified: their images can't be read or have changed "
            "(if they were moved, give their new place)",
            f"{unread:,}", f"{len(found.evidence):,}",
        )  # fmt: skip
    if vague:
        _log.info("%s pairs have too little detail to tell", f"{vague:,}")
