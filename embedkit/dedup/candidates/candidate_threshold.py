"""Chooses the cosine from which on pairs are scored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.learn_background import compare_all, sample
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration

__all__ = ["candidate_cosine_threshold"]

_ROWS = 2048
_MOST_PAIRS = 4e6  # a quarter of a gigabyte, and a minute or two to score
_HEADROOM = 0.5  # of the allowed pairs, because a sample only estimates how many there are

_log = logging.getLogger("embedkit")


def candidate_cosine_threshold(
    left: DedupInput,
    right: DedupInput | None,
    background: Background,
    calibration: Calibration,
    candidates_per_image: float,
    *,
    max_pairs: int,
    whitened: bool = False,
) -> float:
    """The cosine that an image reaches with so many images that are no copies of it, on average.

    It is estimated on a sample. It is higher where that would make more than four million pairs,
    and where there are more copies than may be paired, which is logged.

    Args:
        left: The store whose images are compared.
        right: The store that they are compared with; None compares within one store.
        background: The background set of the latter.
        calibration: Scores which pairs of the sample are copies.
        candidates_per_image: How many.
        max_pairs: More pairs, copies included, may not be found.
        whitened: Whether the cosine is that of whitened embeddings.

    Returns:
        -1 to 1; -1 where an image has no more others than that.
    """
    other = right or left
    rows, hashes = sample(left.distinct, left, _ROWS)
    compared = compare_all(
        background, calibration, (rows, hashes), (background.rows, background.hashes), len(other)
    )
    with Stage("choosing the candidate threshold"):
        different = [
            (part.whitened if whitened else part.cosine)[part.is_different()] for part in compared
        ]
    share = min(
        candidates_per_image / max(len(other), 1), _MOST_PAIRS / max(len(left) * len(other), 1)
    )
    threshold = _reached(np.concatenate([np.empty(0, np.float32), *different]), share)

    others = rows if right is None else sample(right.distinct, right, _ROWS)[0]
    if whitened:
        rows, others = (background.whitening.apply(side) for side in (rows, others))
    cosines = rows @ others.T
    pairs = len(left.distinct) * len(other.distinct)
    if right is None:
        cosines, pairs = cosines[~np.eye(len(cosines), dtype=bool)], pairs // 2
    least = _reached(cosines.reshape(-1), _HEADROOM * max_pairs / max(pairs, 1))
    if least > threshold:
        _log.warning(
            "too many similar images: scoring only pairs with a cosine of %.4g or more%s, about %s",
            least, " after whitening" if whitened else "", f"{_HEADROOM * max_pairs:,.0f}",
        )  # fmt: skip
    return max(least, threshold)


def _reached(cosines: NDArray[np.float32], share: float) -> float:
    """The cosine that a share of ``cosines`` reach; -1 where the share is all of them."""
    return float(np.quantile(cosines, 1 - share)) if len(cosines) and share < 1 else -1.0
