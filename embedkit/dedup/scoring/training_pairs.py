"""Pairs of an edited copy and an image, to fit a calibration on: all true ones, and some others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.features import hamming_distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput

__all__ = ["MOST_ROWS", "EditedCopies", "SampledPairs", "sample_pairs"]

MOST_ROWS = 20_000
"""Of a store, that copies are compared with: 200 MB of 1280 dimensions."""

# Of the images that a copy wasn't made of, by cosine: how many of the nearest, of the next ones,
# and of all the rest are drawn. Each drawn one stands for as many as its stratum has.
_STRATA = ((3, 3), (47, 1), (None, 1))
_TWIN_HAMMING = 6


@dataclass(frozen=True)
class EditedCopies:
    """Edited copies of some images of a store.

    Attributes:
        input: n copies, embedded as the store was.
        origins: ``(n,)`` the row of the store that each copy was made of.
        kinds: n kinds of edit.
    """

    input: DedupInput
    origins: NDArray[np.int64]
    kinds: Sequence[str]

    def __len__(self) -> int:
        return len(self.input)


@dataclass(frozen=True)
class SampledPairs:
    """Pairs to fit on.

    Attributes:
        copy: ``(P,)`` rows of the copies' store.
        row: ``(P,)`` rows of the images' store.
        target: ``(P,)`` bool, whether the copy was made of that image.
        weight: ``(P,)`` float64, how many pairs each stands for.
    """

    copy: NDArray[np.int64]
    row: NDArray[np.int64]
    target: NDArray[np.bool_]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.copy)

    def where(self, kept: NDArray[np.bool_]) -> SampledPairs:
        """Some of the pairs."""
        columns = self.copy[kept], self.row[kept], self.target[kept], self.weight[kept]
        return SampledPairs(*columns)


def sample_pairs(store: DedupInput, copies: EditedCopies, seed: int) -> SampledPairs:
    """Draws the pairs.

    An image that looks like the one a copy was made of (at most six differing bits) may well be a
    copy too, and isn't counted as another image.

    Args:
        store: The images.
        copies: The copies.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    known = np.sort(rng.permutation(len(store))[:MOST_ROWS])
    parts = []
    for origin in np.unique(copies.origins).tolist():
        mine = np.flatnonzero(copies.origins == origin)
        others = _others(store, known, origin)
        cosines = copies.input.rows.take(mine) @ store.rows.take(others).T
        parts.append(np.column_stack([mine, np.full((len(mine), 3), (origin, 1, 1))]))
        for copy, similar in zip(mine.tolist(), cosines, strict=True):
            parts += _draw(copy, others[np.argsort(-similar, kind="stable")], rng)
    table = np.concatenate(parts)
    copy, row, target, weight = table.T
    return SampledPairs(copy.astype(np.int64), row.astype(np.int64), target.astype(bool), weight)


def _others(store: DedupInput, known: NDArray[np.int64], origin: int) -> NDArray[np.int64]:
    """Of some rows those that are no likely copies of a row."""
    twin = hamming_distances(store.hashes[known], store.hashes[[origin]]) <= _TWIN_HAMMING
    twin |= store.contents[known] == store.contents[origin]
    return np.asarray(known[~twin & (known != origin)])


def _draw(
    copy: int, ranked: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Some of the other images of each stratum: copy, row, 0, weight."""
    out = []
    for size, count in _STRATA:
        stratum, ranked = ranked[:size], ranked[len(ranked[:size]) :]
        if len(stratum):
            drawn = rng.choice(stratum, min(count, len(stratum)), replace=False)
            ones = np.ones(len(drawn))
            out.append(
                np.column_stack([ones * copy, drawn, ones * 0, ones * len(stratum) / len(drawn)])
            )
    return out
