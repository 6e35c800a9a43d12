"""The plain rule ``calibration="cosine"``: a pair's score is its cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.pairs import Pairs
from embedkit.dedup.scoring.features import hamming_distances

if TYPE_CHECKING:
    from embedkit.dedup.candidates.collect import Candidates
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.pairs import PairsInfo

__all__ = ["COSINE_THRESHOLD", "score_by_cosine"]

COSINE_THRESHOLD = 0.95
"""The least cosine of a pair, unless another threshold is given."""


def score_by_cosine(
    left: DedupInput, right: DedupInput | None, candidates: Candidates, info: PairsInfo
) -> Pairs:
    """Scores pairs by their cosines alone; equal bytes score 1.

    Args:
        left: The store.
        right: The other one, if any.
        candidates: The pairs.
        info: How they were found.

    Returns:
        The pairs that score at least ``info.threshold``.
    """
    other = right or left
    first, second = candidates.first, candidates.second
    cosine = left.rows.cosines(first, other.rows, second).clip(-1, 1).astype(np.float32)
    exact = left.contents[first] == other.contents[second]
    score = np.where(exact, 1, np.maximum(cosine, 0)).astype(np.float32)
    hamming = hamming_distances(left.hashes[first], other.hashes[second])
    unverified = np.full(len(first), -1, np.int8)
    pairs = Pairs(first, second, score, cosine, hamming, exact, unverified, info, [])
    return pairs.where(score >= np.float32(info.threshold))
