"""The background set: unrelated images of a store, against which pairs are normalised.

A cosine alone says little where all images of a store are alike. So a pair is also compared after
whitening by the background set, and less the similarity that both images have to it.

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WHITENED", "Background", "Whitening"]

WHITENED = 256
"""Dimensions that are left after whitening, at most."""

_NEIGHBOUR_ROWS = 2048
_LEAST_VARIANCE = 1e-9  # of the largest: below, axes from products of rows are inexact
_RANKS = slice(4, 20)  # of the nearest in the background; the first few may be copies themselves
_SHRINKAGE, _SHRINKAGE_ROWS = 0.1, 30  # of the mean eigenvalue, added to each; more for few rows


@dataclass(frozen=True, slots=True)
class Whitening:
    """Subtracts the mean and scales all directions to the same variance.

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
        centred = rows - mean
        values, vectors = _principal_axes(centred, kept)
        share = max(_SHRINKAGE, _SHRINKAGE_ROWS / max(count, 1))
        added = share * (centred**2).sum() / max(count, 1) / kept + 1e-12
        matrix = vectors / np.sqrt(np.maximum(values, 0) + added)
        return cls(mean, matrix.astype(np.float32))

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whitens ``(n, D)`` rows to ``(n, d)`` rows of unit length."""
        white = (rows - self.mean).astype(np.float32) @ self.matrix
        norms = np.linalg.norm(white, axis=1, keepdims=True)
        return np.asarray(white / np.where(norms > 0, norms, 1))


def _principal_axes(
    centred: NDArray[np.float64], kept: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances along the principal axes, ascending, ``(kept,)``, and the axes, ``(D, kept)``."""
    count, dim = centred.shape
    if kept < count < dim:  # the products of the rows have the same eigenvalues, and are fewer
        values, weights = eigh(
            centred @ centred.T / count, subset_by_index=[count - kept, count - 1]
        )
        if values[0] > _LEAST_VARIANCE * values[-1]:
            return values, centred.T @ (weights / np.sqrt(values * count))
    covariance = centred.T @ centred / max(count, 1)
    return tuple(eigh(covariance, subset_by_index=[dim - kept, dim - 1]))


@dataclass(frozen=True)
class Background:
    """A background set, and the whitening learnt on it.

    Attributes:
        rows: ``(n, D)`` float32 of unit length.
        hashes: ``(n,)`` perceptual hashes.
        whitening: Learnt on the rows.
        neighbours: ``(m, D)`` some of the rows, to find each image's nearest among.
    """

    rows: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    whitening: Whitening
    neighbours: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.float32], hashes: NDArray[np.uint64]) -> Self:
        """Of ``(n, D)`` rows of unit length and their ``(n,)`` hashes."""
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), _NEIGHBOUR_ROWS)).astype(np.int64)
        return cls(rows, hashes, Whitening.learn(rows), rows[chosen])

    def similarity(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean cosine of each of ``(n, D)`` unit rows with its nearest ones, ``(n,)``."""
        similar = rows @ self.neighbours.T
        if similar.shape[1] > _RANKS.stop:
            similar = np.partition(similar, -_RANKS.stop, axis=1)[:, -_RANKS.stop :]
        similar = np.sort(similar, axis=1)[:, ::-1]
        ranked = similar[:, _RANKS] if similar.shape[1] > _RANKS.start else similar
        return ranked.mean(1) if ranked.shape[1] else np.zeros(len(similar), np.float32)
