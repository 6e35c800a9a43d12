"""Scores candidate pairs, and selects those that reach the threshold."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.pairs import Pairs
from embedkit.dedup.scoring.calibration import evidence_columns
from embedkit.dedup.scoring.features import FEATURES, PairFeatures, hamming_distances
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.unit_rows import UnitRows
from embedkit.dedup.verification.batch import verify_pairs
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Candidates
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.verification.batch import Pixels
    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.store import EmbeddingStore

__all__ = ["Scorer", "select_pairs"]

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
        backwards: Whether ``Pairs.how`` says how the first was made from the second instead.
    """

    left: DedupInput
    right: DedupInput | None
    calibration: Calibration
    background: Background
    views: Mapping[str, NDArray[np.floating]]
    backwards: bool = False

    def score(
        self,
        candidates: Candidates,
        info: PairsInfo,
        pixels: Pixels | None = None,
        other_pixels: Pixels | None = None,
    ) -> Pairs:
        """Scores all candidates, each pair by its best view.

        Args:
            candidates: The pairs.
            info: How they were found.
            pixels: Gives an image's pixels by its id; None verifies no pair.
            other_pixels: The same of the other store; None takes ``pixels``.
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
        verified, how = np.full(len(best), -1, np.int8), list[dict[str, Any]]()
        if pixels is not None:
            doubtful = (odds < _CERTAIN) & ~exact
            readers = pixels, other_pixels or pixels
            odds, verified, how = self._verify(first, second, odds, doubtful, readers)
        odds = odds + self.calibration.prior(len(other))
        score = np.where(exact, 1, probability(odds)).astype(np.float32)
        hamming = hamming_distances(self.left.hashes[first], other.hashes[second])
        return Pairs(first, second, score, cosine, hamming, exact, verified, info, how)

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

    def _verify(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        odds: NDArray[np.float64],
        doubtful: NDArray[np.bool_],
        readers: tuple[Pixels, Pixels],
    ) -> tuple[NDArray[np.float64], NDArray[np.int8], list[dict[str, Any]]]:
        """Verifies the doubtful ones of ``(P,)`` pairs on their pixels.

        Returns:
            ``(P,)`` log-odds, by the verified model where verified; ``(P,)`` as ``Pairs.verified``;
            and P edits, empty where the pair isn't verified as a copy.
        """
        at = np.flatnonzero(doubtful)
        evidence = self._evidence(first[at], second[at], readers)
        done = at[[one is not None for one in evidence]]
        found = [one for one in evidence if one is not None]
        if len(found) < len(evidence):
            _log.warning(
                "%s of %s pairs can't be verified: their images can't be read or have changed "
                "(if they were moved, give their new place)",
                f"{len(evidence) - len(found):,}", f"{len(evidence):,}",
            )  # fmt: skip
        odds, verified = odds.copy(), np.full(len(odds), -1, np.int8)
        odds[done] = self.calibration.verified_model.log_odds(
            {"plain": odds[done], **evidence_columns(found)}
        )
        verified[done] = odds[done] > 0
        how: list[dict[str, Any]] = [{} for _ in range(len(odds))]
        for place, one in zip(done.tolist(), found, strict=True):
            how[place] = dict(one.how) if odds[place] > 0 else {}
        return odds, verified, how

    def _evidence(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        readers: tuple[Pixels, Pixels],
    ) -> list[Evidence | None]:
        """The evidence of each pair; an image is known by its store's number and its row."""
        other = 0 if self.right is None else 1  # two stores may have the same ids
        names = _names(self.left.store, first, 0)
        names |= _names((self.right or self.left).store, second, other)
        lefts = [(0, row) for row in first.tolist()]
        rights = [(other, row) for row in second.tolist()]
        ends = (rights, lefts) if self.backwards else (lefts, rights)

        def pixels(image: tuple[int, int]) -> NDArray[np.uint8]:
            return readers[image[0]](names[image])

        return verify_pairs(list(zip(*ends, strict=True)), pixels, threads=usable_cores())


def select_pairs(
    found: Pairs, calibration: Calibration, threshold: float | None, precision: float
) -> Pairs:
    """Selects the pairs that reach the threshold.

    Args:
        found: Scored pairs.
        calibration: The calibration that scored them.
        threshold: The least score; None takes the calibration's for ``precision``, which is one for
            verified pairs and another one for the others.
        precision: Target share of the selected pairs that are copies.
    """
    least = np.full(len(found), 0.0 if threshold is None else threshold, np.float32)
    if threshold is None:
        for checked in (False, True):
            of = (found.verified >= 0) == checked
            least[of] = calibration.threshold_for(precision, verified=checked)
        least = np.maximum(least, np.float32(found.info.threshold))  # what the result states
    return found.where(found.score >= least)


def _best(candidates: Candidates, odds: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    """The highest-scoring candidate of each pair, as ``(Q,)`` places sorted by pair."""
    keys = candidates.first * max(width, 1) + candidates.second
    order = np.lexsort((-odds, keys))
    return (
        order[np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))] if len(order) else order
    )


def _names(
    store: EmbeddingStore, rows: NDArray[np.int64], number: int
) -> dict[tuple[int, int], str]:
    """The ids of some rows, by the store's number and row.

    All ids are read in one pass: reading a single id takes as long as reading thousands.
    """
    some = set(rows.tolist())
    if not some:
        return {}
    return {(number, row): name for row, name in enumerate(store.ids) if row in some}
