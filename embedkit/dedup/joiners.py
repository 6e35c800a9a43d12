"""How near embeddings are searched: every pair, or within cells with a measured recall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.dedup.join import join_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.rows import UnitRows

    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

__all__ = ["CellJoiner", "ExactJoiner", "say_nothing"]


def say_nothing(what: str, done: int, total: int) -> None:
    """A listener to progress that isn't interested."""


class ExactJoiner:
    """Finds every pair of a cosine of at least a threshold.

    Attributes:
        recall: None: nothing is missed, so nothing is measured.
    """

    recall: float | None = None

    def __init__(
        self, threshold: float, max_pairs: int, tell: Callable[[str, int, int], None]
    ) -> None:
        self._threshold, self._max_pairs, self._tell = threshold, max_pairs, tell

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_rows``."""
        return join_rows(
            rows, self._threshold, against=against, max_pairs=self._max_pairs,
            on_progress=lambda done, total: self._tell("comparing embeddings", done, total),
        )  # fmt: skip


class CellJoiner(ExactJoiner):
    """Finds most of them.

    Attributes:
        recall: The least share of the pairs that was found, of the joins so far.
    """

    def __call__(self, rows: UnitRows, *, against: UnitRows | None = None) -> Found:
        """Joins; see ``join_cells``."""
        from embedkit.dedup.cells import join_cells, measure_recall

        found = join_cells(
            rows, self._threshold, against=against, max_pairs=self._max_pairs,
            on_progress=lambda done, total: self._tell("comparing cells", done, total),
        )  # fmt: skip
        share = measure_recall(
            found, rows, self._threshold, against=against, max_pairs=self._max_pairs
        )
        self.recall = share if self.recall is None else min(self.recall, share)
        return found
