"""From which cosine on pairs are worth scoring."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.learn_background import compare_all, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import Side
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration

__all__ = ["find_floor"]

_ROWS = 2048
_MOST_PAIRS = 4e6  # a quarter of a gigabyte, and a minute or two to score
_ROOM = 0.5  # of the pairs that may be, as a sample tells only about how many there are

_log = logging.getLogger("embedkit")


def find_floor(
    left: Side,
    right: Side | None,
    background: Background,
    calibration: Calibration,
    looks: float,
    *,
    max_pairs: int,
    whitened: bool = False,
) -> float:
    """The cosine that so many images that are no copies reach with an image, on average.

    A higher one where that would make more than four million pairs; and where there are more copies
    than may be paired, which is logged.

    Args:
        left: The store whose images are compared.
        right: The one that they are compared with; None within one store.
        background: The background set of that one.
        calibration: Tells what a copy is.
        looks: How many.
        max_pairs: More pairs, copies included, can't be had.
        whitened: Whether the cosine is that after whitening.

    Returns:
        -1 to 1; -1 where an image has no more others than that.
    """
    other = right or left
    rows, hashes = sample(left.distinct, left, _ROWS)
    compared = compare_all(
        background, calibration, (rows, hashes), (background.rows, background.hashes), len(other)
    )
    different = [
        (part.whitened if whitened else part.cosine)[part.is_different()] for part in compared
    ]
    share = min(looks / max(len(other), 1), _MOST_PAIRS / max(len(left) * len(other), 1))
    floor = _reached(np.concatenate([np.empty(0, np.float32), *different]), share)

    others = rows if right is None else sample(right.distinct, right, _ROWS)[0]
    if whitened:
        rows, others = (background.whitening.apply(side) for side in (rows, others))
    cosines = rows @ others.T
    pairs = len(left.distinct) * len(other.distinct)
    if right is None:
        cosines, pairs = cosines[~np.eye(len(cosines), dtype=bool)], pairs // 2
    least = _reached(cosines.reshape(-1), _ROOM * max_pairs / max(pairs, 1))
    if least > floor:
        _log.warning(
            "so many images are alike that only pairs with a cosine of %.4g or more%s are scored, "
            "about %s of them",
            least, " after whitening" if whitened else "", f"{_ROOM * max_pairs:,.0f}",
        )  # fmt: skip
    return max(least, floor)


def _reached(cosines: NDArray[np.float32], share: float) -> float:
    """What a share of cosines reach; -1 if all may."""
    return float(np.quantile(cosines, 1 - share)) if len(cosines) and share < 1 else -1.0
