"""How near embeddings are searched: every pair, or within cells; as they are, or whitened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.exact_join import join_rows
from embedkit.dedup.scoring.background import WHITENED, Whitening
from embedkit.dedup.unit_rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

__all__ = ["CellJoiner", "ExactJoiner", "WhitenedJoiner"]


class ExactJoiner:
    """Finds every pair of a cosine of at least a threshold.

    Attributes:
        recall: None: nothing is missed, so nothing is measured.
    """

    recall: float | None = None

    def __init__(
        self, threshold: float, max_pairs: int, tell: Callable[[str, int, int], None],
        device: str = "cpu",
    ) -> None:  # fmt: skip
        """Takes what is to be found.

        Args:
            threshold: The least cosine.
            max_pairs: More are refused.
            tell: Told what is done, how much of how much.
            device: ``cpu``, or one of PyTorch's, where exact joins are computed.
        """
        self._threshold, self._max_pairs, self._tell = threshold, max_pairs, tell
        self._device = device

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_rows``."""

        def told(done: int, total: int) -> None:
            self._tell("comparing embeddings", done, total)

        if self._device == "cpu":
            return join_rows(
                rows, self._threshold, against=against, max_pairs=self._max_pairs, on_progress=told
            )
        from embedkit.dedup.candidates.gpu_join import join_on_device

        return join_on_device(
            rows, self._threshold, self._device,
            against=against, max_pairs=self._max_pairs, on_progress=told,
        )  # fmt: skip


class CellJoiner(ExactJoiner):
    """Finds most of them.

    Attributes:
        recall: The least share of the pairs that was found, of the joins so far; None if it
            couldn't be measured, since no row that was asked for has a pair.
    """

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_cells``."""
        from embedkit.dedup.candidates.ivf_join import join_cells, measure_recall

        least, limit = self._threshold, self._max_pairs
        found = join_cells(rows, least, self._tell, against=against, max_pairs=limit)
        share = measure_recall(found, rows, least, against=against, max_pairs=limit)
        if share is not None:
            self.recall = share if self.recall is None else min(self.recall, share)
        return found


class WhitenedJoiner:
    """Finds pairs that are near after whitening, which tells copies from what merely looks alike.

    Args:
        joiner: Joins the whitened rows.
        whitening: What whitens them.
    """

    def __init__(self, joiner: ExactJoiner, whitening: Whitening) -> None:
        self._joiner, self._whitening = joiner, whitening

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; the cosines are those after whitening."""
        left = self._whiten(rows)
        right = None if against is None else self._whiten(against)
        first, second, cosines = self._joiner(left, against=right)
        return rows.numbers[first], (against or rows).numbers[second], cosines

    def _whiten(self, rows: UnitRows) -> UnitRows:
        out = np.empty((len(rows), min(WHITENED, rows.dim)), np.float32)
        for where, part in rows.parts():
            out[where] = self._whitening.apply(part)
        return UnitRows(out)
