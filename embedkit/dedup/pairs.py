"""Pairs of images that may be copies: what every search hands to grouping, files and plans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.tabular import Tabular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["NOT_VERIFIED", "PAIR_DTYPES", "SAME_SCENE", "Pairs", "PairsInfo"]

NOT_VERIFIED, SAME_SCENE = -1, 2
"""Values of ``Pairs.verified``: not checked; another photograph of the same scene."""

PAIR_DTYPES: dict[str, np.dtype[Any]] = {
    "first": np.dtype(np.int64),
    "second": np.dtype(np.int64),
    "score": np.dtype(np.float32),
    "cosine": np.dtype(np.float32),
    "hamming": np.dtype(np.uint8),
    "exact": np.dtype(np.bool_),
    "verified": np.dtype(np.int8),
}
"""The columns of ``Pairs``, in order."""


@dataclass(frozen=True, slots=True)
class PairsInfo:
    """How pairs were found.

    Attributes:
        threshold: The least score of a pair.
        mode: ``exact``: every pair at or above the threshold; ``approximate``: some may be missing.
        recall: The share of them that is there, measured on a sample; None where nothing was.
        calibration: Name of what turned similarities into scores.
        rows: Rows of the store.
        against_rows: Rows of the store that it was compared with; None within one store.
        candidate_recall: Verified, the share of the copies whose pairs are among the candidates,
            measured on pairs that follow from others; None where there are too few.
    """

    threshold: float
    mode: Literal["exact", "approximate"] = "exact"
    recall: float | None = None
    calibration: str = "none"
    rows: int = 0
    against_rows: int | None = None
    candidate_recall: float | None = None


@dataclass(frozen=True, repr=False)
class Pairs(Tabular):
    """Pairs of images, one row a pair, sorted by (first, second).

    Within one store ``first < second``; with another store ``first`` is a row of the store and
    ``second`` a row of that other one.

    Attributes:
        first: ``(P,)`` int64 row numbers.
        second: ``(P,)`` int64 row numbers.
        score: ``(P,)`` float32, the calibrated probability that the two are copies, 0 to 1; of
            ``verified`` 2, how surely they show the same scene.
        cosine: ``(P,)`` float32, of the embeddings.
        hamming: ``(P,)`` uint8, bits in which the perceptual hashes differ; 255 where unknown.
        exact: ``(P,)`` bool, whether the contents have the same hash.
        verified: ``(P,)`` int8, on the pixels: -1 not checked, 0 no copy, 1 a copy, 2 another
            photograph of the same scene.
        info: How they were found.
        how: P descriptions of how the second was made from the first (crop box, flip, rotation,
            scale), or nothing.

    Raises:
        ValueError: The columns aren't of one length or of these types, or aren't in order.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    score: NDArray[np.float32]
    cosine: NDArray[np.float32]
    hamming: NDArray[np.uint8]
    exact: NDArray[np.bool_]
    verified: NDArray[np.int8]
    info: PairsInfo
    how: Sequence[Mapping[str, Any]] = ()

    def _summary(self) -> str:
        return f"{len(self):,} pairs with a score of {self.info.threshold:.3f} or more"

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PAIR_DTYPES}

    def __post_init__(self) -> None:
        for name, dtype in PAIR_DTYPES.items():
            column = getattr(self, name)
            if column.shape != (len(self),) or column.dtype != dtype:
                raise ValueError(f"pairs: {name} isn't ({len(self)},) {dtype}")
        if self.how and len(self.how) != len(self):
            raise ValueError(f"pairs: {len(self.how)} descriptions of {len(self)} pairs")
        _check_rows(self)
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise ValueError("pairs: a score isn't from 0 to 1")

    def __len__(self) -> int:
        return len(self.first)

    def where(self, kept: NDArray[np.bool_], threshold: float | None = None) -> Pairs:
        """Some of the pairs.

        Args:
            kept: ``(P,)`` bool.
            threshold: What the info then states as threshold; None leaves it.
        """
        columns = {name: getattr(self, name)[kept] for name in PAIR_DTYPES}
        how = [self.how[i] for i in np.flatnonzero(kept).tolist()] if self.how else ()
        info = self.info if threshold is None else replace(self.info, threshold=threshold)
        return Pairs(**columns, info=info, how=how)


def _check_rows(pairs: Pairs) -> None:
    first, second, info = pairs.first, pairs.second, pairs.info
    if not len(pairs):
        return
    limit = info.rows if info.against_rows is None else info.against_rows
    if first.min() < 0 or second.min() < 0 or first.max() >= info.rows or second.max() >= limit:
        raise ValueError("pairs: a row outside its store")
    if info.against_rows is None and not (first < second).all():
        raise ValueError("pairs: the first row of a pair must be the lower one")
    step = np.diff(first)
    if not ((step > 0) | ((step == 0) & (np.diff(second) > 0))).all():
        raise ValueError("pairs: not sorted by (first, second), or a pair is there twice")
