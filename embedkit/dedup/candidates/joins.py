"""The threshold joins of a search: exact or within IVF cells, of embeddings or whitened ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.scoring.background import WHITENED, Whitening
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.ivf_join import CellWork
    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration

    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

__all__ = ["ExactJoin", "IvfJoin", "WhitenedJoin"]


class ExactJoin:
    """Finds every pair whose cosine is at least a threshold.

    Attributes:
        recall: None, since no pair is missed.
    """

    recall: float | None = None

    def __init__(self, threshold: float, max_pairs: int, device: str = "cpu") -> None:
        """Sets what to find.

        Args:
            threshold: The least cosine.
            max_pairs: More are refused.
            device: ``cpu``, or a PyTorch device, where exact joins are computed.
        """
        self._threshold, self._max_pairs = threshold, max_pairs
        self._device = device

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``exact_join``."""
        if self._device == "cpu":
            return exact_join(rows, self._threshold, against=against, max_pairs=self._max_pairs)
        from embedkit.dedup.candidates.gpu_join import gpu_join

        return gpu_join(
            rows, self._threshold, self._device, against=against, max_pairs=self._max_pairs
        )


class IvfJoin(ExactJoin):
    """Finds most of these pairs, and measures the share of them that it finds.

    Attributes:
        recall: The lowest share of the pairs that a join so far has found; None where it couldn't
            be measured, because no row of the sample has a pair.
    """

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``ivf_join``."""
        return self._joined(rows, against, None)

    def _joined(self, rows: UnitRows, against: UnitRows | None, work: CellWork | None) -> Found:
        from embedkit.dedup.candidates.ivf_join import ivf_join, measure_recall

        least, limit = self._threshold, self._max_pairs
        found = ivf_join(rows, least, against=against, max_pairs=limit, work=work)
        share = measure_recall(found, rows, least, against=against, max_pairs=limit, work=work)
        if share is not None:
            self.recall = share if self.recall is None else min(self.recall, share)
        return found


class WhitenedJoin:
    """Finds pairs that are near after whitening, which separates copies from similar images.

    Args:
        join: Joins the whitened rows.
        whitening: What whitens them.
    """

    def __init__(self, join: ExactJoin, whitening: Whitening) -> None:
        self._join, self._whitening = join, whitening

    @classmethod
    def chosen(
        cls,
        left: DedupInput,
        right: DedupInput | None,
        background: Background,
        calibration: Calibration,
        candidates_per_image: float,
        max_pairs: int,
    ) -> Self:
        """With the threshold that ``candidate_cosine_threshold`` chooses."""
        least = candidate_cosine_threshold(
            left, right, background, calibration, candidates_per_image, max_pairs=max_pairs,
            whitened=True,
        )  # fmt: skip
        return cls(ExactJoin(least, max_pairs), background.whitening)

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; the cosines are those after whitening."""
        left = self._whiten(rows)
        right = None if against is None else self._whiten(against)
        first, second, cosines = self._join(left, against=right)
        return rows.numbers[first], (against or rows).numbers[second], cosines

    def _whiten(self, rows: UnitRows) -> UnitRows:
        out = np.empty((len(rows), min(WHITENED, rows.dim)), np.float32)
        for where, part in rows.parts():
            out[where] = self._whitening.apply(part)
        return UnitRows(out)
