"""Projects embeddings to two dimensions (PCA or UMAP)."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedkit.utils.extras import require_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LayoutMethod",
    "check_umap",
    "fitted",
    "principal_axes",
    "takes_umap",
    "umap_points",
]

LayoutMethod = Literal["auto", "umap", "pca"]

_FEWEST = 5  # images; UMAP's spectral start needs more than the plane has dimensions
_NEIGHBORS = 15


def takes_umap(method: LayoutMethod, count: int) -> bool:
    """Whether so many rows are projected by UMAP: ``auto`` takes it if it is installed.

    Raises:
        MissingExtraError: ``method`` is ``umap``, and umap-learn isn't installed.
    """
    if method == "umap":
        check_umap()
    return method != "pca" and find_spec("umap") is not None and count >= _FEWEST


def check_umap() -> None:
    """Raises ``MissingExtraError`` if UMAP isn't installed."""
    require_extra("umap", "map", 'a map by UMAP (method="pca" needs nothing)')


def principal_axes(
    rows: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of rows and the axes of their first two principal components.

    An axis's sign is such that its largest weight is positive, so that equal rows give equal maps.
    Axes that rows of too few dimensions don't have are 0.

    Args:
        rows: ``(n, D)``, at least one.

    Returns:
        ``(D,)`` and ``(D, 2)`` float32.
    """
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    _, vectors = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = vectors[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    out = np.zeros((rows.shape[1], 2), np.float32)
    out[:, : axes.shape[1]] = axes * np.sign(largest)
    return mean, out


def umap_points(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Positions by UMAP with the cosine, ``(n, D)`` to ``(n, 2)``; n of at least 5.

    Source: McInnes et al., "UMAP: Uniform Manifold Approximation and Projection", arXiv 1802.03426.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of its part that needs TensorFlow
        import umap

    reducer = umap.UMAP(
        n_neighbors=min(_NEIGHBORS, len(rows) - 1),
        metric="cosine",
        init="random" if len(rows) < 4 * _FEWEST else "spectral",
        random_state=seed,
        n_jobs=1,  # what a fixed seed allows
    )
    return np.asarray(reducer.fit_transform(rows), np.float32)


def fitted(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moved and scaled, both axes alike, into the unit square."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    return np.asarray((points - (low + high) / 2) / span + 0.5, np.float32)
