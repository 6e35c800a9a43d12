"""Finds copies whose pixels agree: candidates are compared until the groups are known."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.pairs import NOT_VERIFIED, SAME_SCENE, Pairs
from embedkit.dedup.scoring.features import hamming_distances
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.pixel_model import FIRST_PRIOR, pixel_odds, prior_of, scene_odds
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.forest import implied_pairs, verify_forest
from embedkit.dedup.verification.keypoint_votes import voted_pairs
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.ranked_pairs import RankedPairs
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.config import What
    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.verification.batch import Comparer, Compares, Pixels
    from embedkit.dedup.verification.compared_pairs import ComparedPairs
    from embedkit.dedup.verification.forest import Verified
    from embedkit.dedup.verification.geometric import Evidence

    Ints = NDArray[np.int64]

__all__ = ["verify_candidates"]

_ODDS = {"copies": pixel_odds, "scenes": scene_odds}
_FEWEST_PER_IMAGE, _MOST_VOTING = 4, 30_000  # candidates an image; images
_FEWEST_FOLLOWING = 20  # pairs that the recall of candidates is measured on
_log = logging.getLogger("embedkit")


def verify_candidates(
    left: DedupInput,
    right: DedupInput | None,
    ranked: RankedPairs,
    info: PairsInfo,
    readers: tuple[Pixels, Pixels],
    *,
    what: What = "copies",
    backwards: bool = False,
    new: Sequence[NDArray[np.bool_]] | None = None,
    compared: ComparedPairs | None = None,
    comparer: Comparer | None = None,
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
        new: As ``find_pairs`` takes it.
        compared: Keeps what is compared, for a run that goes on with an interrupted one.
        comparer: Compares pairs of images, those of the other store counted after the store's; None
            compares in this process. It isn't for ``backwards``.

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

    here = PairComparer(pixels, usable_cores(), backwards=backwards)
    with here if comparer is None else comparer as compare:
        found = verify_forest(
            _pairs(ranked.first[~exact], second[~exact]), same,
            compare if compared is None else compared.kept(compare), partial(_judge, what),
            len(left) + (0 if right is None else len(other)),
            _vote(compare, ranked, left, right, new),
        )  # fmt: skip
    return _scored(found, same, left, right, ranked, info)


def _vote(
    compare: Compares,
    ranked: RankedPairs,
    left: DedupInput,
    right: DedupInput | None,
    new: Sequence[NDArray[np.bool_]] | None,
) -> Callable[[], list[tuple[int, int]]] | None:
    """Gives pairs by keypoints, of the images of all candidates; None where that isn't worth it."""
    split = None if right is None else len(left)
    images = np.unique([ranked.first, ranked.second + (split or 0)])
    if len(ranked.first) < _FEWEST_PER_IMAGE * len(images) or len(images) > _MOST_VOTING:
        return None
    voting = _once_each(left.contents, images[images < len(left)])
    if right is not None:
        voting += _once_each(right.contents, images[images >= len(left)], len(left))

    def vote() -> list[tuple[int, int]]:
        first, second = voted_pairs(compare.keypoints, voting, split)
        if new is not None:
            asked = new[0][first] | new[-1][second - (split or 0)]
            first, second = first[asked], second[asked]
        return _pairs(first, second)

    return vote


def _once_each(contents: NDArray[np.void], images: Ints, start: int = 0) -> list[int]:
    """Some images of a store, numbered from ``start``, without those of equal bytes."""
    _, once = np.unique(contents[images - start], return_index=True)
    chosen: list[int] = images[np.sort(once)].tolist()
    return chosen


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
    prior = min(prior_of(odds), FIRST_PRIOR)  # the likeliest were compared, and links found by it
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
    info = replace(info, candidate_recall=_share_among(ranked, found.voted, implied, left, right))
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
    voted: Sequence[tuple[int, int]],
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
    by_embeddings = ranked.first * images + ranked.second + (0 if right is None else split)
    by_votes = np.array([first * images + second for first, second in voted], np.int64)
    keys = np.concatenate([by_embeddings, by_votes])
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
