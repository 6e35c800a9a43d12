"""The features of a pair of images that a calibration turns into a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.hamming_join import is_informative
from embedkit.utils.parallel import in_single_threads
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["FEATURES", "PairFeatures", "feature_columns", "hamming_distances"]

FEATURES = ("cosine", "whitened", "normalised", "hamming")
"""The features of a pair; see ``feature_columns``."""

_UNRELATED_BITS = 32  # the differing bits of two unrelated 64-bit hashes: a half
_VALUES_AT_ONCE = 2**20


def feature_columns(
    cosine: NDArray[np.floating],
    whitened: NDArray[np.floating],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    hamming: NDArray[np.uint8],
) -> dict[str, NDArray[np.floating]]:
    """The features of pairs, from what is known of their images; all shapes broadcast.

    Args:
        cosine: Of the embeddings.
        whitened: Cosine of the whitened embeddings.
        first: The first images' similarity to the background set.
        second: The second images' similarity to it.
        hamming: Differing bits of the perceptual hashes, 255 where unknown.

    Returns:
        ``cosine``; ``whitened``; ``normalised``, the cosine less the mean of both similarities to
        the background set; ``hamming``, at most 32, which is chance.
    """
    return {
        "cosine": cosine,
        "whitened": whitened,
        "normalised": cosine - (first + second) / 2,
        "hamming": np.minimum(hamming, _UNRELATED_BITS).astype(np.float64),
    }


class PairFeatures:
    """Computes the features of pairs between two sets of rows, which may be the same."""

    def __init__(
        self,
        rows: UnitRows,
        other: UnitRows,
        hashes: NDArray[np.uint64],
        other_hashes: NDArray[np.uint64],
        background: Background,
    ) -> None:
        """Takes what is compared.

        Args:
            rows: n rows.
            other: m rows.
            hashes: ``(n,)`` perceptual hashes.
            other_hashes: ``(m,)`` perceptual hashes.
            background: The background set.
        """
        self._sides = rows, other
        self._hashes = hashes, other_hashes
        self._background = background
        self._similarity: dict[UnitRows, NDArray[np.float32]] = {}

    def columns(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        view: UnitRows | None = None,
    ) -> dict[str, NDArray[np.floating]]:
        """The features of ``(P,)`` pairs of places, ``(P,)`` float64 each.

        Args:
            first: Places in the rows.
            second: Places in the other rows.
            view: Embeddings of the first side's images, mirrored or turned, that are compared
                instead of their own.
        """
        mine, other = view or self._sides[0], self._sides[1]
        self._compare_with_background(mine, first)
        self._compare_with_background(other, second)
        hamming = hamming_distances(self._hashes[0][first], self._hashes[1][second])
        cosine, whitened = np.empty(len(first)), np.empty(len(first))

        def fill(part: slice) -> None:
            left, left_white = self._rows(mine, first[part])
            right, right_white = self._rows(other, second[part])
            np.einsum("nd,nd->n", left, right, out=cosine[part])
            whitened[part] = np.einsum("nd,nd->n", left_white, right_white)

        with Stage("scoring pairs", len(first), unit="pairs") as stage:
            for part, _ in in_single_threads(fill, _parts(len(first), mine.dim)):
                stage.update(part.stop)
        return feature_columns(
            cosine, whitened, self._similarity[mine][first], self._similarity[other][second],
            hamming,
        )  # fmt: skip

    def _compare_with_background(self, rows: UnitRows, at: NDArray[np.int64]) -> None:
        """Fills in the similarity of some rows to the background set, where it isn't known yet."""
        similarity = self._similarity.setdefault(rows, np.full(len(rows), np.nan, np.float32))
        places = np.unique(at)
        places = places[np.isnan(similarity[places])]

        def fill(part: slice) -> None:
            found = rows.take(places[part]).astype(np.float32)
            similarity[places[part]] = self._background.similarity(found)

        width = max(rows.dim, len(self._background.neighbours))
        with Stage("comparing with the background", len(places), unit="images") as stage:
            for part, _ in in_single_threads(fill, _parts(len(places), width)):
                stage.update(part.stop)

    def _rows(
        self, rows: UnitRows, at: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Rows, and whitened rows."""
        places, inverse = np.unique(at, return_inverse=True)
        found = rows.take(places)
        return found[inverse], self._background.whitening.apply(found)[inverse]


def _parts(count: int, dim: int) -> Iterator[slice]:
    step = max(_VALUES_AT_ONCE // max(dim, 1), 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def hamming_distances(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Differing bits, ``(P,)``; 255 where one of the two says nothing."""
    distance: NDArray[np.uint8] = np.bitwise_count(left ^ right)
    distance[~(is_informative(left) & is_informative(right))] = 255
    return distance
