"""Vectors for tests of search, and its definition without a shortcut."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["all_scores", "best_rows", "clustered", "photo_like", "whitened"]


def clustered(
    rows: int, dim: int, *, seed: int = 0, lengths: tuple[float, float] = (0.5, 3)
) -> np.ndarray:
    """``(rows, dim)`` float32 in clusters, off the origin, of different lengths.

    Each seed draws other vectors from the same clusters.
    """
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    spread = fixed.permutation((np.arange(dim) + 1.0) ** -0.5)
    centres = fixed.standard_normal((60, dim)) * spread * 3
    vectors = centres[rng.integers(0, 60, rows)] + rng.standard_normal((rows, dim)) * spread + 0.3
    scale = rng.uniform(*lengths, (rows, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors * scale).astype(np.float32)


def photo_like(count: int, dim: int, seed: int, dtype: str = "float16") -> np.ndarray:
    """Rows with a decaying spectrum around some centres; a fifth are near another row."""
    rng = np.random.default_rng(seed)
    decay = np.arange(1, dim + 1) ** -0.7
    centres = rng.standard_normal((count // 20 + 1, dim)) * decay
    rows = centres[rng.integers(0, len(centres), count)] + rng.standard_normal((count, dim)) * decay
    near = rng.random(count) < 0.2
    noise = rng.standard_normal((count, dim)) * decay * rng.uniform(0.05, 0.6, (count, 1))
    rows[near] = (rows[rng.integers(0, count, count)] + noise)[near]
    return (rows * rng.uniform(0.1, 10, (count, 1))).astype(dtype)


def all_scores(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """``(Q, N)`` float64: the definition, with no shortcut."""
    q, x = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return -cdist(q, x, "sqeuclidean")
    if metric == "cosine":
        q, x = _unit(q), _unit(x)
    return q @ x.T


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """``(Q, k)`` the rows of the highest scores, best first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def whitened(sample: np.ndarray, vectors: np.ndarray, metric: str, dim: int) -> np.ndarray:
    """PCA-whitening by a singular value decomposition of the sample."""
    sample, vectors = sample.astype(np.float64), vectors.astype(np.float64)
    if metric == "cosine":
        sample, vectors = _unit(sample), _unit(vectors)
    mean = sample.mean(axis=0)
    _, sizes, axes = np.linalg.svd(sample - mean, full_matrices=False)
    deviations = sizes / np.sqrt(len(sample) - 1)
    return (vectors - mean) @ axes[:dim].T / deviations[:dim]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
