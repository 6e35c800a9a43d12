"""What tells copies from look-alikes, beside the cosine: whitening, the background, the hash.

Sources: whitening: Jegou, Chum, "Negative evidences and co-occurences in image retrieval: the
benefit of PCA and whitening" (2012); subtracting each image's similarity to a background: Douze et
al., "The 2021 Image Similarity Dataset and Challenge" (2021), Pizzi et al., "A Self-Supervised
Descriptor for Image Copy Detection" (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.linalg import eigh

from embedkit.dedup.candidates.hamming_join import is_telling
from embedkit.utils.parallel import in_single_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.scoring.background import Reference
    from embedkit.dedup.unit_rows import UnitRows

__all__ = [
    "FEATURES",
    "UNRELATED",
    "WHITENED",
    "PairFeatures",
    "Whitening",
    "common_with",
    "hamming_distances",
]

FEATURES = ("cosine", "whitened", "normalised", "hamming")
"""The features of a pair: the cosine; the cosine after whitening; the cosine less what both images
have with others; the differing bits of the perceptual hashes, at most 32, which is chance."""

WHITENED = 256
"""Dimensions that are left after whitening, at most."""

UNRELATED = 32
"""Differing bits of the hashes of unrelated images: a half."""

_RANKS = slice(4, 20)  # of the nearest in the background; the first few may be copies themselves
_SHRINKAGE, _SHRINKAGE_ROWS = 0.1, 30  # of the mean eigenvalue, added to each; more for few rows
_VALUES_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Whitening:
    """Subtracts the mean and makes all directions vary alike.

    Attributes:
        mean: ``(D,)``.
        matrix: ``(D, d)``.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float32]

    @classmethod
    def learn(cls, rows: NDArray[np.floating]) -> Self:
        """From ``(n, D)`` rows; the eigenvalues shrunk towards their mean, as rows may be few."""
        count, dim = rows.shape
        kept = min(WHITENED, dim)
        mean = rows.sum(0, np.float64) / max(count, 1)
        apart = rows - mean
        covariance = apart.T @ apart / max(count, 1)
        values, vectors = eigh(covariance, subset_by_index=[dim - kept, dim - 1])
        share = max(_SHRINKAGE, _SHRINKAGE_ROWS / max(count, 1))
        floor = share * np.trace(covariance) / kept + 1e-12
        matrix = vectors / np.sqrt(np.maximum(values, 0) + floor)
        return cls(mean, matrix.astype(np.float32))

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whitened rows of unit length."""
        white = (rows - self.mean).astype(np.float32) @ self.matrix
        norms = np.linalg.norm(white, axis=1, keepdims=True)
        return np.asarray(white / np.where(norms > 0, norms, 1))


class PairFeatures:
    """Computes the features of pairs between two sets of rows, which may be the same."""

    def __init__(
        self,
        rows: UnitRows,
        other: UnitRows,
        hashes: NDArray[np.uint64],
        other_hashes: NDArray[np.uint64],
        reference: Reference,
    ) -> None:
        self._sides = rows, other
        self._hashes = hashes, other_hashes
        self._reference = reference
        self._common: dict[UnitRows, NDArray[np.float32]] = {}

    def columns(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        view: UnitRows | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """The features of ``(P,)`` pairs of places.

        Args:
            first: Places in the rows.
            second: Places in the other rows.
            view: Embeddings of the first side's images, mirrored or turned, that are compared
                instead of their own.
            on_progress: Told how many of how many pairs are done.
        """
        mine, other = view or self._sides[0], self._sides[1]
        self._compare_with_background(mine, first)
        self._compare_with_background(other, second)
        common = self._common[mine][first] + self._common[other][second]
        distance = hamming_distances(self._hashes[0][first], self._hashes[1][second])
        cosine, whitened = np.empty(len(first)), np.empty(len(first))

        def fill(part: slice) -> None:
            left, left_white = self._rows(mine, first[part])
            right, right_white = self._rows(other, second[part])
            np.einsum("nd,nd->n", left, right, out=cosine[part])
            whitened[part] = np.einsum("nd,nd->n", left_white, right_white)

        for part, _ in in_single_threads(fill, _parts(len(first), mine.dim)):
            if on_progress is not None:
                on_progress(part.stop, len(first))
        return {
            "cosine": cosine,
            "whitened": whitened,
            "normalised": cosine - common / 2,
            "hamming": np.minimum(distance, UNRELATED).astype(np.float64),
        }

    def _compare_with_background(self, rows: UnitRows, at: NDArray[np.int64]) -> None:
        """Finds what some rows have in common with the background, if it isn't known."""
        background = self._reference.background
        common = self._common.setdefault(rows, np.full(len(rows), np.nan, np.float32))
        places = np.unique(at)
        places = places[np.isnan(common[places])]

        def fill(part: slice) -> None:
            found = rows.take(places[part]).astype(np.float32)
            common[places[part]] = common_with(background, found)

        for _ in in_single_threads(fill, _parts(len(places), max(rows.dim, len(background)))):
            pass

    def _rows(
        self, rows: UnitRows, at: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Rows, and whitened rows."""
        places, inverse = np.unique(at, return_inverse=True)
        found = rows.take(places)
        return found[inverse], self._reference.whitening.apply(found)[inverse]


def common_with(background: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each of ``(n, D)`` rows has in common with what is nearest to it in the background."""
    similar = rows @ background.T
    if similar.shape[1] > _RANKS.stop:
        similar = np.partition(similar, -_RANKS.stop, axis=1)[:, -_RANKS.stop :]
    similar = np.sort(similar, axis=1)[:, ::-1]
    ranked = similar[:, _RANKS] if similar.shape[1] > _RANKS.start else similar
    return ranked.mean(1) if ranked.shape[1] else np.zeros(len(similar), np.float32)


def _parts(count: int, dim: int) -> Iterator[slice]:
    step = max(_VALUES_AT_ONCE // max(dim, 1), 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def hamming_distances(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Differing bits, ``(P,)``; 255 where one of the two says nothing."""
    distance: NDArray[np.uint8] = np.bitwise_count(left ^ right)
    distance[~(is_telling(left) & is_telling(right))] = 255
    return distance
