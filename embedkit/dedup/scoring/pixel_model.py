"""The model that turns the evidence of pixels into log-odds, and the prior that a store suggests.

It is the same for all backbones: it doesn't use the embeddings. Among the pairs that it was fitted
on are hundreds of portraits of the same people and other photographs of one thing.

Source of the prior: Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a
priori probabilities" (2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.logistic import LogisticModel, least_score, probability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence

__all__ = [
    "FIRST_PRIOR", "SCENE_THRESHOLD", "pixel_features", "pixel_odds", "prior_of", "scene_odds",
    "threshold_for",
]  # fmt: skip

FIRST_PRIOR = -2.0
"""Log-odds of a copy among compared pairs, before the store says more: one in eight."""

_MODEL = LogisticModel(
    features=("agreeing", "elsewhere", "moved"),
    mean=(-0.3746, 1.1067, -4.2297),
    scale=(2.6691, 1.2791, 0.8589),
    weights=(8.883, -1.409, -1.3045),
    bias=4.847,
)
_SCENES = LogisticModel(
    features=("spread", "matched", "shared"),
    mean=(0.1244, 0.8299, 0.169),
    scale=(0.2813, 1.7442, 0.342),
    weights=(1.983, 6.402, 1.542),
    bias=-16.001,
)
SCENE_THRESHOLD = 0.5
"""The least score, by default, of two photographs of one scene."""

_MANY, _FEW, _DOUBT = 3000, 1000, 5.0  # windows (a tiny picture has 1000); log-odds less with few
_NOT_ONE = -12.0  # log-odds of graphics that differ in detail, and where a thing was replaced
_REPLACED = 0.795  # of a square that is full of something else
# Of two graphics: the share of the fine details that may contradict each other, and of a spot.
_FINE, _SPOT = 0.003, 0.00008
_LARGEST = 14.0  # log-odds: no pair is surer than that
_THRESHOLDS = ((0.9, 0.5), (0.98, 0.6), (0.99, 0.7), (0.995, 0.9), (0.999, 0.99))
_EVEN = 0.5  # pairs of each kind that are added, so that few pairs don't decide alone
_ROUNDS = 100
_LEAST_PRIOR, _LARGEST_PRIOR = -4.0, 2.0  # below, what was compared on pixels says too little


def pixel_features(evidence: Sequence[Evidence]) -> Mapping[str, NDArray[np.float64]]:
    """The evidence as features, ``(n,)`` each.

    The share of windows that agree times that of levels that follow as log-odds, the keypoints that
    match elsewhere and the share of what has moved as logarithms.
    """
    agree = np.array([one.agreement.agreeing * one.agreement.tones for one in evidence], np.float64)
    elsewhere = np.array([one.elsewhere for one in evidence], np.float64)
    moved = np.array([one.moved for one in evidence], np.float64)
    return {
        "agreeing": np.log((agree + 0.03) / (1.03 - agree)),
        "elsewhere": np.log1p(elsewhere),
        "moved": np.log(moved + 0.01),
    }


def pixel_odds(evidence: Sequence[Evidence]) -> NDArray[np.float64]:
    """Log-odds of a copy at even prior odds, ``(n,)``; NaN where there is too little detail."""
    odds = np.clip(_MODEL.log_odds(pixel_features(evidence)), -_LARGEST, _LARGEST)
    odds -= _doubt([one.agreement.windows for one in evidence])
    differ = [_contradicts(one) or _other_things(one) for one in evidence]
    odds[np.array(differ, bool)] = _NOT_ONE
    odds[np.array([not one.agreement.windows for one in evidence], bool)] = np.nan
    return odds


def scene_odds(evidence: Sequence[Evidence]) -> NDArray[np.float64]:
    """Log-odds that two images show one scene from nearly one place, ``(n,)``.

    That of copies, too. Of other photographs it is the more places at which keypoints agree, the
    more parts of the image they are in, and the more of both images overlaps: a face or a product
    before another background fills few. NaN where there is too little detail.
    """
    features = {
        "spread": np.array([one.spread for one in evidence], np.float64),
        "matched": np.log1p(np.array([one.matched for one in evidence], np.float64)),
        "shared": np.array([one.shared for one in evidence], np.float64),
    }
    odds = np.clip(_SCENES.log_odds(features), -_LARGEST, _LARGEST)
    odds[np.array([_contradicts(one) for one in evidence], bool)] = _NOT_ONE
    return np.asarray(np.fmax(pixel_odds(evidence), odds))


def _other_things(evidence: Evidence) -> bool:
    """Whether another thing is in the same place, or each image has one that the other lacks."""
    return evidence.agreement.replaced > _REPLACED or evidence.agreement.foreign >= 1


def _contradicts(evidence: Evidence) -> bool:
    """Whether two graphics say something else."""
    return evidence.fine > _FINE or evidence.spot > _SPOT


def _doubt(windows: Sequence[int]) -> NDArray[np.float64]:
    """Log-odds that agreement in few places is worth less: tiny pictures often look alike."""
    lack = np.log(_MANY / np.maximum(np.array(windows, np.float64), 1)) / np.log(_MANY / _FEW)
    return np.asarray(_DOUBT * np.clip(lack, 0, 1))


def prior_of(odds: NDArray[np.float64], least: float = _LEAST_PRIOR) -> float:
    """The prior log-odds under which pairs, of even prior log-odds ``(n,)``, are the likeliest."""
    prior = FIRST_PRIOR
    for _ in range(_ROUNDS):
        # Half a copy and half another pair are added, so that few pairs don't decide alone.
        share = (probability(odds + prior).sum() + _EVEN) / (len(odds) + 1)
        prior = float(np.clip(np.log(share / (1 - share)), least, _LARGEST_PRIOR))
    return prior


def threshold_for(precision: float) -> float:
    """The least score from which on a share ``precision`` of the pairs were copies.

    Measured on portraits with their crops and on heavily edited photographs, see the performance
    page; the next higher measured precision is taken, or the highest.
    """
    return least_score(precision, _THRESHOLDS)
