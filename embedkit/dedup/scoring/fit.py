"""Fits a calibration on edited copies of a store's images; measures it by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.scoring.calibration import EVEN_ODDS, Calibration
from embedkit.dedup.scoring.features import FEATURES, PairFeatures
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.logistic import fit_logistic, probability
from embedkit.dedup.scoring.pixel_model import pixel_odds
from embedkit.dedup.scoring.training_pairs import MOST_ROWS, sample_pairs
from embedkit.dedup.verification.batch import verify_pairs
from embedkit.metrics import precision_recall, recall_at_precision, reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.scoring.logistic import LogisticModel
    from embedkit.dedup.scoring.training_pairs import EditedCopies, SampledPairs
    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.metrics import Reliability

__all__ = ["CalibrationReport", "Curve", "fit_calibration"]

_RISING = ("cosine", "whitened")
_PRECISIONS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
# Log-odds by the pixels, at which another image agrees with a copy and with its original: a twin of
# that, which the user has unknowingly, and no mistake.
_TWIN = 2.0
_Columns = Mapping[str, "NDArray[np.floating]"]


@dataclass(frozen=True)
class Curve:
    """How good the scores of one model are.

    Attributes:
        thresholds: ``(t,)`` scores, descending.
        precision: ``(t,)`` of all pairs that score at least that.
        recall: ``(t,)``.
        threshold: The one that was chosen, at least 0.5; infinite if none is precise enough.
        kinds: Kind of edit to the share of its copies that reach it.
        reliability: Whether the scores hold as probabilities.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    threshold: float
    kinds: Mapping[str, float]
    reliability: Reliability

    def threshold_for(self, precision: float) -> float:
        """The least score that reaches a precision; 1 where none does."""
        enough = np.flatnonzero(self.precision >= precision)
        return float(self.thresholds[enough[-1]]) if len(enough) else 1.0

    @property
    def recall_there(self) -> float:
        """At the chosen threshold."""
        return float(self.recall[self.thresholds >= self.threshold].max(initial=0))

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "recall": self.recall_there,
            "kinds": dict(self.kinds),
            "calibration_error": self.reliability.error,
        }


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration, and what was measured of it.

    The curve of embeddings is of images that its model hadn't seen: each half scored by the
    other's. The model of pixels is the same for all stores.

    Attributes:
        calibration: Fitted on all.
        images: Of the store.
        copies: That were compared with them.
        embedding_curve: Of the embedding model.
        verified_curve: Of the model of pixels.
    """

    calibration: Calibration
    images: int
    copies: int
    embedding_curve: Curve
    verified_curve: Curve

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "calibration": self.calibration.to_config(),
            "images": self.images,
            "copies": self.copies,
            "plain": self.embedding_curve.to_config(),
            "checked": self.verified_curve.to_config(),
        }


def fit_calibration(
    store: DedupInput,
    copies: EditedCopies,
    pixels: Callable[[str], NDArray[np.uint8]],
    *,
    precision: float,
    seed: int,
    threads: int,
) -> CalibrationReport:
    """Fits the model of embeddings, and measures it and the one of pixels.

    An image that by its pixels is the same as the original of a copy isn't counted as a negative.

    Args:
        store: The images.
        copies: Edited copies of some of them.
        pixels: Gives pixels by the ids of both stores.
        precision: What the thresholds are chosen for.
        seed: Draws halves and pairs.
        threads: Number of threads that verify.
    """
    pairs = sample_pairs(store, copies, seed)
    background = learn_background(store.rows, store, None)
    features = PairFeatures(
        copies.input.rows, store.rows, copies.input.hashes, store.hashes, background
    )
    columns = features.columns(pairs.copy, pairs.row)
    names, others = list(copies.input.store.ids), list(store.store.ids)

    def verify(these: Iterable[tuple[str, str]]) -> list[Evidence | None]:
        return verify_pairs(list(these), pixels, threads=threads)

    ends = zip(pairs.copy.tolist(), pairs.row.tolist(), strict=True)
    evidence = verify(((others[row], names[copy]) for copy, row in ends))
    doubtful = np.flatnonzero(
        [not w and _agree(e) for w, e in zip(pairs.target, evidence, strict=True)]
    )
    twins = verify(
        ((others[row], others[origin]) for row, origin in
         zip(pairs.row[doubtful], copies.origins[pairs.copy[doubtful]], strict=True)),
    )  # fmt: skip
    seen = np.array([one is not None for one in evidence])
    seen[doubtful[np.array([_agree(one) for one in twins], bool)]] = False
    pairs, columns = pairs.where(seen), {name: column[seen] for name, column in columns.items()}
    kept = [one for one, kept in zip(evidence, seen, strict=True) if one and kept]
    return _Fitted(pairs, columns, pixel_odds(kept), copies, precision).report(store, seed)


def _agree(evidence: Evidence | None) -> bool:
    """Whether pixels alone say that two images are one."""
    return evidence is not None and bool(pixel_odds([evidence])[0] >= _TWIN)


@dataclass(frozen=True)
class _Fitted:
    """Pairs with all their features."""

    pairs: SampledPairs
    columns: _Columns
    pixel_odds: NDArray[np.float64]
    copies: EditedCopies
    precision: float

    def report(self, store: DedupInput, seed: int) -> CalibrationReport:
        seen = np.nan_to_num(self.pixel_odds, nan=-np.inf)
        held_out = self._odds_of_halves(seed)
        curves = self._curve(held_out, held_out), self._curve(seen, seen + self._prior())
        meta, rows = store.store.meta, min(len(store), MOST_ROWS)
        calibration = Calibration(
            name=f"{meta.backbone}, {len(set(self.copies.origins.tolist()))} of {rows} images",
            backbone=meta.backbone,
            weights_fingerprint=meta.weights_fingerprint,
            pooling=dict(meta.pooling),
            rows=rows,
            embedding_model=self._model(np.ones(len(self.pairs), bool)),
            thresholds=tuple((one, curves[0].threshold_for(one)) for one in _PRECISIONS),
        )
        return CalibrationReport(calibration, rows, len(self.copies), *curves)

    def _odds_of_halves(self, seed: int) -> NDArray[np.float64]:
        """Log-odds of all pairs by their embeddings, fitted on the other half of the images."""
        drawn = np.random.default_rng(seed).permutation(np.unique(self.copies.origins))
        first_half = np.isin(self.copies.origins[self.pairs.copy], drawn[: len(drawn) // 2])
        odds = np.empty(len(self.pairs))
        for half in (first_half, ~first_half):
            odds[~half] = self._model(half).log_odds(self.columns)[~half]
        return odds

    def _model(self, of: NDArray[np.bool_]) -> LogisticModel:
        """The model of embeddings, fitted on some of the pairs."""
        columns = {name: self.columns[name][of] for name in FEATURES}
        return fit_logistic(columns, self.pairs.target[of], self.pairs.weight[of], rising=_RISING)

    def _prior(self) -> float:
        """The log-odds of copies among the pairs, which a search estimates from the store."""
        copies = self.pairs.weight[self.pairs.target].sum()
        return float(np.log(copies / self.pairs.weight[~self.pairs.target].sum()))

    def _curve(self, odds: NDArray[np.float64], stated: NDArray[np.float64]) -> Curve:
        """The curve of log-odds, and the reliability of those that are stated."""
        scores, target = probability(odds), self.pairs.target
        _, threshold = recall_at_precision(
            scores, target, self.precision, weights=self.pairs.weight
        )
        least = max(threshold, EVEN_ODDS)
        kinds = np.array(self.copies.kinds)[self.pairs.copy]
        return Curve(
            *precision_recall(scores, target, weights=self.pairs.weight),
            least,
            {
                str(kind): float((scores[target & (kinds == kind)] >= least).mean())
                for kind in dict.fromkeys(self.copies.kinds)
            },
            reliability(probability(stated), target, weights=self.pairs.weight),
        )
