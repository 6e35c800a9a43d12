"""Projects embeddings to two dimensions (PCA or UMAP)."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedkit.utils.extras import require_extra
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LayoutMethod", "lay_out", "principal_components"]

LayoutMethod = Literal["auto", "umap", "pca"]

_FEWEST = 5  # images; UMAP's spectral start needs more than the plane has dimensions
_NEIGHBORS = 15


def lay_out(
    rows: NDArray[np.float32], method: LayoutMethod, seed: int
) -> tuple[NDArray[np.float32], str]:
    """Projects rows to two dimensions.

    Args:
        rows: ``(n, D)`` of unit length.
        method: ``umap``, ``pca``, or ``auto``: UMAP if it is installed and there are enough rows.
        seed: Random seed of UMAP.

    Returns:
        ``(n, 2)`` in the unit square, and the method used.

    Raises:
        MissingExtraError: ``method`` is ``umap``, and umap-learn isn't installed.

    Source: McInnes et al., "UMAP: Uniform Manifold Approximation and Projection", arXiv 1802.03426.
    """
    if method == "umap":
        check_umap()
    takes_umap = method != "pca" and find_spec("umap") is not None and len(rows) >= _FEWEST
    with Stage("placing the images", unit="images"):
        points = _umap(rows, seed) if takes_umap else principal_components(rows)
    return _fitted(points), "umap" if takes_umap else "pca"


def check_umap() -> None:
    """Raises ``MissingExtraError`` if UMAP isn't installed."""
    require_extra("umap", "map", 'a map by UMAP (method="pca" needs nothing)')


def principal_components(rows: NDArray[np.float32], count: int = 2) -> NDArray[np.float32]:
    """The first principal components of rows, ``(n, D)`` to ``(n, count)``.

    A component's sign is such that its largest weight is positive, so that equal rows give equal
    maps. Components that rows of too few dimensions don't have are 0.
    """
    out = np.zeros((len(rows), count), np.float32)
    if len(rows):
        centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        _, vectors = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
        axes = vectors[:, ::-1][:, :count]
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
        out[:, : axes.shape[1]] = centred @ (axes * np.sign(largest)).astype(np.float32)
    return out


def _umap(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
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


def _fitted(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moved and scaled, both axes alike, into the unit square."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    return np.asarray((points - (low + high) / 2) / span + 0.5, np.float32)
