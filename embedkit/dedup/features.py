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

from embedkit.dedup.hashes import is_telling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.rows import UnitRows

__all__ = ["FEATURES", "WHITENED", "PairFeatures", "Whitening", "hamming_distances"]

FEATURES = ("cosine", "whitened", "normalised", "hamming")
"""The features of a pair: the cosine; the cosine after whitening; the cosine less what both images
have with others; the differing bits of the perceptual hashes, at most 32, which is chance."""

WHITENED = 256
"""Dimensions that are left after whitening, at most."""

_LEARNED_ROWS, _BACKGROUND_ROWS = 8192, 2048
_RANKS = slice(4, 20)  # of the nearest in the background; the first few may be copies themselves
_SHRINKAGE = 0.1  # of the mean eigenvalue, added to each
_UNRELATED = 32
_PAIRS_AT_ONCE = 16384


@dataclass(frozen=True, slots=True)
class Whitening:
    """Subtracts the mean and makes all directions vary alike.

    Attributes:
        mean: ``(D,)``.
        matrix: ``(D, d)``.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def learn(cls, rows: NDArray[np.float64]) -> Self:
        """From ``(n, D)`` rows; the eigenvalues shrunk towards their mean, as rows may be few."""
        mean = rows.mean(0)
        dim = rows.shape[1]
        kept = min(WHITENED, dim)
        covariance = (rows - mean).T @ (rows - mean) / max(len(rows), 1)
        values, vectors = eigh(covariance, subset_by_index=[dim - kept, dim - 1])
        floor = _SHRINKAGE * np.trace(covariance) / kept + 1e-12
        return cls(mean, vectors / np.sqrt(np.maximum(values, 0) + floor))

    def apply(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Whitened rows of unit length."""
        white = (rows - self.mean) @ self.matrix
        norms = np.linalg.norm(white, axis=1, keepdims=True)
        return np.asarray(white / np.where(norms > 0, norms, 1))


class PairFeatures:
    """Computes the features of pairs between two sets of rows, which may be the same.

    Whitening and background are those of the other rows, the references.
    """

    def __init__(
        self,
        rows: UnitRows,
        other: UnitRows,
        hashes: NDArray[np.uint64],
        other_hashes: NDArray[np.uint64],
    ) -> None:
        self._sides = rows, other
        self._hashes = hashes, other_hashes
        self._whitening = Whitening.learn(other.sample(_LEARNED_ROWS))
        self._background = other.sample(_BACKGROUND_ROWS)

    def columns(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        view: UnitRows | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """The features of ``(P,)`` pairs of places.

        Args:
            first: Places in the rows.
            second: Places in the other rows.
            view: Embeddings of the first side's images, mirrored or turned, that are compared
                instead of their own.
        """
        parts = [
            self._part(
                first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE], view
            )
            for start in range(0, max(len(first), 1), _PAIRS_AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in FEATURES}

    def _part(
        self, first: NDArray[np.int64], second: NDArray[np.int64], view: UnitRows | None
    ) -> dict[str, NDArray[np.float64]]:
        left, left_white, left_common = self._side(view or self._sides[0], first)
        right, right_white, right_common = self._side(self._sides[1], second)
        cosine = np.einsum("nd,nd->n", left, right)
        distance = hamming_distances(self._hashes[0][first], self._hashes[1][second])
        return {
            "cosine": cosine,
            "whitened": np.einsum("nd,nd->n", left_white, right_white),
            "normalised": cosine - (left_common + right_common) / 2,
            "hamming": np.minimum(distance, _UNRELATED).astype(np.float64),
        }

    def _side(self, rows: UnitRows, at: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """Rows, whitened rows, and what each has in common with the background."""
        places, inverse = np.unique(at, return_inverse=True)
        found = rows.take(places)
        similar = np.sort(found @ self._background.T, axis=1)[:, ::-1]
        ranked = similar[:, _RANKS] if similar.shape[1] > _RANKS.start else similar
        common = ranked.mean(1) if ranked.shape[1] else np.zeros(len(found))
        return found[inverse], self._whitening.apply(found)[inverse], common[inverse]


def hamming_distances(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Differing bits, ``(P,)``; 255 where one of the two says nothing."""
    distance: NDArray[np.uint8] = np.bitwise_count(left ^ right)
    distance[~(is_telling(left) & is_telling(right))] = 255
    return distance
