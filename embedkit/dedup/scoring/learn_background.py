"""Choosing a store's background set: a sample of its images without near-duplicates.

Near-duplicates must not be in it: they would be each other's nearest neighbours, and whitening
would take what only they share for what all images share, so that an image's copies would score
lower the more there are. To find them takes scores, and scores take a background set. So the set is
chosen in rounds, each of which scores the sample against the set of the round before and keeps one
image of each group of copies, until the set stays the same. The first round goes by the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.background import Background
from embedkit.dedup.scoring.features import feature_columns, hamming_distances
from embedkit.utils.parallel import in_single_threads
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["Compared", "compare_all", "learn_background", "sample"]

_ROWS = 4096
_FEWEST = 512  # so many are enough without those of the calibration
_ROUNDS = 8
_EVEN_COSINE = 0.94  # as likely a copy's as not, where nothing else is known
_ROWS_AT_ONCE = 256
_SAME = 1 - 1e-6


def learn_background(
    rows: UnitRows, store: DedupInput, calibration: Calibration | None
) -> Background:
    """Chooses the background set of a store.

    Args:
        rows: Some of the store's rows, or all.
        store: The store.
        calibration: Scores which of them are copies; None takes all for different.
    """
    sampled, hashes = sample(rows, store, _ROWS)
    if calibration is None:
        return Background.of(sampled, hashes)
    kept = _keep_first(np.tril(sampled @ sampled.T, -1) >= _EVEN_COSINE, len(sampled))
    background = _filled(sampled[kept], hashes[kept], calibration)
    for _ in track(range(_ROUNDS), "choosing the background set", _ROUNDS, unit="rounds"):
        compared = compare_all(
            background, calibration, (sampled, hashes), (sampled, hashes), len(store)
        )
        before, kept = (
            kept,
            _keep_first((odds > 0 for part in compared for odds in part.odds), len(sampled)),
        )
        if (kept == before).all():
            break
        background = _filled(sampled[kept], hashes[kept], calibration)
    return background


def _filled(
    rows: NDArray[np.float32], hashes: NDArray[np.uint64], calibration: Calibration
) -> Background:
    """A background set of some rows, and of the calibration's own where these are few."""
    others = calibration.background
    if others is not None and len(rows) < _FEWEST:
        others = others[: _FEWEST - len(rows)]
        rows = np.concatenate([rows, others])
        hashes = np.concatenate([hashes, np.zeros(len(others), hashes.dtype)])
    return Background.of(rows, hashes)


def sample(
    rows: UnitRows, store: DedupInput, count: int
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Up to ``count`` of some rows of a store, ``(n, D)`` of unit length, and their hashes."""
    at = rows.drawn(count)
    return rows.take(at).astype(np.float32), store.hashes[rows.numbers[at]]


@dataclass(frozen=True)
class Compared:
    """Some rows with all of the others, ``(m, n)`` each.

    Attributes:
        cosine: Of the embeddings.
        whitened: Cosine after whitening.
        odds: Log-odds that the pair is a copy.
    """

    cosine: NDArray[np.float32]
    whitened: NDArray[np.float32]
    odds: NDArray[np.float64]

    def is_different(self) -> NDArray[np.bool_]:
        """Which pairs are no copies, nor a row with itself, ``(m, n)``."""
        return (self.odds <= 0) & (self.cosine < _SAME)


def compare_all(
    background: Background,
    calibration: Calibration,
    rows: tuple[NDArray[np.float32], NDArray[np.uint64]],
    others: tuple[NDArray[np.float32], NDArray[np.uint64]],
    store_rows: int,
) -> Iterator[Compared]:
    """Scores each of some rows with each of others, 256 rows at a time.

    Args:
        background: The background set.
        calibration: The models.
        rows: ``(m, D)`` of unit length, and ``(m,)`` perceptual hashes.
        others: ``(n, D)`` and ``(n,)`` of the others.
        store_rows: Rows of the others' store.
    """
    white = background.whitening.apply(others[0]).T
    theirs = background.similarity(others[0])

    def compared(part: slice) -> Compared:
        vectors, hashes = rows[0][part], rows[1][part]
        cosine = vectors @ others[0].T
        whitened = background.whitening.apply(vectors) @ white
        columns = feature_columns(
            cosine, whitened, background.similarity(vectors)[:, None], theirs,
            hamming_distances(hashes[:, None], others[1]),
        )  # fmt: skip
        odds = calibration.embedding_model.log_odds({k: c.reshape(-1) for k, c in columns.items()})
        odds += calibration.prior(store_rows)
        return Compared(cosine, whitened, odds.reshape(cosine.shape))

    parts = [slice(n, n + _ROWS_AT_ONCE) for n in range(0, len(rows[0]), _ROWS_AT_ONCE)]
    for _, one in in_single_threads(compared, parts):
        yield one


def _keep_first(near: Iterable[NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
    """Which rows are near no kept row before them, ``(n,)``; ``near`` gives ``(n,)`` a row."""
    kept = np.ones(count, bool)
    for row, mine in enumerate(near):
        kept[row] = not kept[:row][mine[:row]].any()
    return kept
