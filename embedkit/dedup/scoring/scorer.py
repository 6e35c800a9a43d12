"""Scores candidate pairs by their embeddings and perceptual hashes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.pairs import Pairs
from embedkit.dedup.scoring.features import FEATURES, PairFeatures, hamming_distances
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.thumbnail_model import (
    threshold_for,
    thumbnail_distances,
    thumbnail_odds,
    turn_of_view,
)
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Candidates
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration

__all__ = ["Scorer"]

_log = logging.getLogger("embedkit")

_CERTAIN = 12.0  # log-odds above which verification can't change the decision


@dataclass(frozen=True)
class Scorer:
    """Scores the pairs of two stores, or of one.

    Attributes:
        left: The store.
        right: The other one, if any.
        calibration: The models.
        background: The background set, of the other store if there is one.
        views: Of the left store's images.
        by_thumbnails: Whether the thumbnails in the stores say more.
    """

    left: DedupInput
    right: DedupInput | None
    calibration: Calibration
    background: Background
    views: Mapping[str, NDArray[np.floating]]
    by_thumbnails: bool = False

    @property
    def name(self) -> str:
        """What scores, as results name it."""
        return self.calibration.name + (", thumbnails" if self.by_thumbnails else "")

    def threshold_for(self, precision: float) -> float:
        """The score from which on at least this share of the pairs are copies."""
        find = threshold_for if self.by_thumbnails else self.calibration.threshold_for
        return find(precision)

    def score(self, candidates: Candidates, info: PairsInfo) -> Pairs:
        """Scores all candidates, each pair by its best view.

        Args:
            candidates: The pairs.
            info: How they were found.
        """
        other = self.right or self.left
        columns = self.columns(candidates)
        odds = self.calibration.embedding_model.log_odds(columns)
        best = _best(candidates, odds, len(other))
        first, second, odds = candidates.first[best], candidates.second[best], odds[best]
        cosines = columns["cosine"][best]
        seen = np.flatnonzero(candidates.view[best])  # scored by a view, but reported as stored
        cosines[seen] = self.left.rows.cosines(first[seen], other.rows, second[seen])
        cosine = np.clip(cosines, -1, 1).astype(np.float32)
        exact = self.left.contents[first] == other.contents[second]
        odds = self._in_this_store(odds, first, second, candidates.view[best], exact)
        score = np.where(exact, 1, probability(odds)).astype(np.float32)
        hamming = hamming_distances(self.left.hashes[first], other.hashes[second])
        verified = np.full(len(best), -1, np.int8)
        return Pairs(first, second, score, cosine, hamming, exact, verified, info)

    def _in_this_store(
        self,
        odds: NDArray[np.float64],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        view: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Log-odds of pairs with all that is known besides the embeddings."""
        alone = odds + self.calibration.prior(len(self.right or self.left))
        if not self.by_thumbnails:
            return alone
        turns = np.array([0, *map(turn_of_view, self.views)])[np.abs(view)]
        swap = view < 0  # the second image was turned
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        other = np.flatnonzero(~exact)
        distances = thumbnail_distances(
            self.left, self.right, first[other], second[other], odds[other], turns[other]
        )
        found = thumbnail_odds(odds[other], distances)
        alone[other] = np.where(np.isnan(found), alone[other], found)
        return alone

    def columns(self, candidates: Candidates) -> dict[str, NDArray[np.float64]]:
        """The features of the candidates, ``(P,)`` each, with the view that each was found by."""
        other = self.right or self.left
        features = PairFeatures(
            self.left.rows, other.rows, self.left.hashes, other.hashes, self.background
        )
        views = [UnitRows(view) for view in self.views.values()]
        out = {name: np.empty(len(candidates)) for name in FEATURES}
        for view in np.unique(candidates.view).tolist():
            mine = np.flatnonzero(candidates.view == view)
            first, second = candidates.first[mine], candidates.second[mine]
            if view < 0:
                first, second = second, first
            seen = views[abs(view) - 1] if view else None
            columns = features.columns(first, second, seen)
            for name, column in columns.items():
                out[name][mine] = column
        return out


def _best(candidates: Candidates, odds: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    """The highest-scoring candidate of each pair, as ``(Q,)`` places sorted by pair."""
    keys = candidates.first * max(width, 1) + candidates.second
    order = np.lexsort((-odds, keys))
    return (
        order[np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))] if len(order) else order
    )
