"""What pairs are measured against: images of the store, no two of which are copies.

Copies would pass for the background of each other, and whitening would take for common what only
they share: the more copies an image had, the less alike they would seem. So of each group of copies
one is kept. Telling copies takes scores, and these take a reference: the first one leaves out what
is nearly the same by its cosine, the next ones what is a copy by the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.dedup.scoring.features import UNRELATED, Whitening, common_with, hamming_distances
from embedkit.utils.parallel import in_single_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import Side
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["Compared", "Reference", "sample"]

_ROWS, _BACKGROUND_ROWS = 4096, 2048
_ROUNDS = 8
_SURE = 0.94  # the cosine that is as likely a copy's as not where nothing else is known
_ROWS_AT_ONCE = 256
_SAME = 1 - 1e-6


@dataclass(frozen=True)
class Reference:
    """A sample of a store without copies, and what is learnt of it.

    Attributes:
        rows: ``(n, D)`` float32 of unit length.
        hashes: ``(n,)`` perceptual hashes.
        whitening: Learnt on the rows.
        background: ``(m, D)`` some of the rows.
    """

    rows: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    whitening: Whitening
    background: NDArray[np.float32]

    @classmethod
    def learn(cls, rows: UnitRows, side: Side, calibration: Calibration | None) -> Self:
        """Learns from a sample of a store's rows.

        Args:
            rows: Some of the store's rows, or all.
            side: The store.
            calibration: Tells which of them are copies; None takes all for different.
        """
        sampled, hashes = sample(rows, side, _ROWS)
        if calibration is None:
            return cls._of(sampled, hashes)
        kept = _greedy(np.tril(sampled @ sampled.T, -1) >= _SURE, len(sampled))
        found = cls._of(sampled[kept], hashes[kept])
        for _ in range(_ROUNDS):
            compared = found.compare(sampled, hashes, (sampled, hashes), calibration, len(side))
            before, kept = kept, _without_copies(compared, len(sampled))
            if (kept == before).all():
                break
            found = cls._of(sampled[kept], hashes[kept])
        return found

    @classmethod
    def _of(cls, rows: NDArray[np.float32], hashes: NDArray[np.uint64]) -> Self:
        every = np.linspace(0, len(rows) - 1, min(len(rows), _BACKGROUND_ROWS)).astype(np.int64)
        return cls(rows, hashes, Whitening.learn(rows), rows[every])

    @property
    def others(self) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
        """The rows and their hashes, to compare with."""
        return self.rows, self.hashes

    def compare(
        self,
        rows: NDArray[np.float32],
        hashes: NDArray[np.uint64],
        others: tuple[NDArray[np.float32], NDArray[np.uint64]],
        calibration: Calibration,
        store_rows: int,
    ) -> Iterator[Compared]:
        """Compares each of some rows with each of others, some at a time.

        Args:
            rows: ``(m, D)`` of unit length.
            hashes: ``(m,)`` perceptual hashes.
            others: ``(n, D)`` and ``(n,)`` of the others.
            calibration: What scores.
            store_rows: Of the others' store.
        """
        white = self.whitening.apply(others[0]).T
        common = common_with(self.background, others[0])

        def compared(part: slice) -> Compared:
            cosine = rows[part] @ others[0].T
            whitened = self.whitening.apply(rows[part]) @ white
            mine = common_with(self.background, rows[part])
            distance = hamming_distances(hashes[part, None], others[1])
            columns = {
                "cosine": cosine,
                "whitened": whitened,
                "normalised": cosine - (mine[:, None] + common) / 2,
                "hamming": np.minimum(distance, UNRELATED),
            }
            odds = calibration.plain.log_odds({k: c.reshape(-1) for k, c in columns.items()})
            odds += calibration.prior(store_rows)
            return Compared(cosine, whitened, odds.reshape(cosine.shape))

        parts = [slice(n, n + _ROWS_AT_ONCE) for n in range(0, len(rows), _ROWS_AT_ONCE)]
        for _, one in in_single_threads(compared, parts):
            yield one


def sample(
    rows: UnitRows, side: Side, count: int
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Up to ``count`` of some rows of a store, ``(n, D)`` of unit length, and their hashes."""
    at = rows.drawn(count)
    return rows.take(at).astype(np.float32), side.hashes[rows.numbers[at]]


@dataclass(frozen=True)
class Compared:
    """Some rows with all of a reference, ``(m, n)`` each."""

    cosine: NDArray[np.float32]
    whitened: NDArray[np.float32]
    odds: NDArray[np.float64]

    def is_different(self) -> NDArray[np.bool_]:
        """Which pairs are no copies, nor a row with itself."""
        return (self.odds <= 0) & (self.cosine < _SAME)


def _without_copies(compared: Iterable[Compared], count: int) -> NDArray[np.bool_]:
    """Which rows are no copy of one before them that is kept, ``(n,)``."""
    return _greedy((odds > 0 for part in compared for odds in part.odds), count)


def _greedy(near: Iterable[NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
    """Which rows are near none before them that is kept; ``near`` is a row's, ``(n,)`` each."""
    kept = np.ones(count, bool)
    for row, mine in enumerate(near):
        kept[row] = not kept[:row][mine[:row]].any()
    return kept
