"""How near embeddings are searched: every pair, or within cells; as they are, or whitened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.features import WHITENED, Whitening
from embedkit.dedup.join import join_rows
from embedkit.dedup.rows import UnitRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

__all__ = ["CellJoiner", "ExactJoiner", "WhitenedJoiner", "find_floor", "say_nothing"]

_SAMPLED = 2048, 8192  # 17 million pairs
_MOST_PAIRS = 4e6  # a quarter of a gigabyte, and a few minutes to score
_LEARNED_ROWS = 8192


def say_nothing(what: str, done: int, total: int) -> None:
    """A listener to progress that isn't interested."""


def find_floor(rows: UnitRows, other: UnitRows, each: float) -> float:
    """The cosine that about ``each`` of the other rows reach with a row, by a sample.

    Fewer than ``each`` where that would make more than four million pairs.

    Args:
        rows: One side.
        other: The other side; may be the same.
        each: How many.

    Returns:
        -1 to 1; -1 if a row has no more others than that.
    """
    share = min(each / max(len(other), 1), _MOST_PAIRS / max(len(rows) * len(other), 1))
    if share >= 1 or not len(rows):
        return -1.0
    cosines = rows.sample(_SAMPLED[0]) @ other.sample(_SAMPLED[1]).T
    different = cosines[cosines < 1 - 1e-9]  # neither a row with itself nor equal ones
    return float(np.quantile(different, 1 - share)) if len(different) else -1.0


class ExactJoiner:
    """Finds every pair of a cosine of at least a threshold.

    Attributes:
        recall: None: nothing is missed, so nothing is measured.
    """

    recall: float | None = None

    def __init__(
        self, threshold: float | None, max_pairs: int, tell: Callable[[str, int, int], None],
        each: float = 20.0, device: str = "cpu",
    ) -> None:  # fmt: skip
        """Takes what is to be found.

        Args:
            threshold: The least cosine; None finds one that ``each`` pairs a row reach.
            max_pairs: More are refused.
            tell: Told what is done, how much of how much.
            each: Pairs a row.
            device: ``cpu``, or one of PyTorch's, where exact joins are computed.
        """
        self._device = device
        self._threshold, self._max_pairs, self._tell = threshold, max_pairs, tell
        self._each = each

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_rows``."""
        floor = self._floor(rows, against)

        def told(done: int, total: int) -> None:
            self._tell("comparing embeddings", done, total)

        if self._device == "cpu":
            return join_rows(
                rows, floor, against=against, max_pairs=self._max_pairs, on_progress=told
            )
        from embedkit.dedup.device_join import join_on_device

        return join_on_device(
            rows, floor, self._device, against=against, max_pairs=self._max_pairs, on_progress=told
        )

    def _floor(self, rows: UnitRows, against: UnitRows | None) -> float:
        if self._threshold is None:  # the same for all views
            self._threshold = find_floor(rows, against or rows, self._each)
        return self._threshold


class CellJoiner(ExactJoiner):
    """Finds most of them.

    Attributes:
        recall: The least share of the pairs that was found, of the joins so far; None if it
            couldn't be measured, since no row that was asked for has a pair.
    """

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_cells``."""
        from embedkit.dedup.cells import join_cells, measure_recall

        floor = self._floor(rows, against)
        found = join_cells(rows, floor, self._tell, against=against, max_pairs=self._max_pairs)
        share = measure_recall(found, rows, floor, against=against, max_pairs=self._max_pairs)
        if share is not None:
            self.recall = share if self.recall is None else min(self.recall, share)
        return found


class WhitenedJoiner:
    """Finds pairs that are near after whitening, which tells copies from what merely looks alike.

    Args:
        joiner: Joins the whitened rows.
    """

    def __init__(self, joiner: ExactJoiner) -> None:
        self._joiner = joiner
        self._whitening: Whitening | None = None

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; the cosines are those after whitening."""
        if not len(rows) or (against is not None and not len(against)):
            return self._joiner(rows, against=against)  # nothing to learn from, nor to find
        if self._whitening is None:  # the same for all views
            self._whitening = Whitening.learn((against or rows).sample(_LEARNED_ROWS))
        left = self._whiten(rows)
        right = None if against is None else self._whiten(against)
        first, second, cosines = self._joiner(left, against=right)
        return rows.numbers[first], (against or rows).numbers[second], cosines

    def _whiten(self, rows: UnitRows) -> UnitRows:
        assert self._whitening is not None
        out = np.empty((len(rows), min(WHITENED, rows.dim)), np.float32)
        for where, part in rows.parts():
            out[where] = self._whitening.apply(part)
        return UnitRows(out)
