"""Scores of pairs of images by their pixels, before a store says more."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedkit.dedup.scoring.calibration import PRECISION
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.pixel_model import FIRST_PRIOR, pixel_odds, threshold_for
from embedkit.dedup.verification.geometric import compare
from embedkit.dedup.verification.image_to_compare import ImageToCompare

THRESHOLD = threshold_for(PRECISION)
"""The default score from which on a pair is listed."""


def prepared(images: Iterable[Image.Image]) -> list[ImageToCompare]:
    return [ImageToCompare.of(np.asarray(one)) for one in images]


def scores_of(pairs: Iterable[Sequence[ImageToCompare]]) -> NDArray[np.float64]:
    """``(P,)``; 0 of a pair with too little detail."""
    odds = pixel_odds([compare(first, second) for first, second in pairs])
    return probability(np.nan_to_num(odds, nan=-np.inf) + FIRST_PRIOR)
