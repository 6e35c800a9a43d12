"""Trains an index on a random sample of the rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import ivf_of, layers
from embedkit.index.gpu import num_gpus, on_gpus
from embedkit.index.openmp import few_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.index.store_rows import RowOrder, StoreRows

__all__ = [
    "K_MEANS_ROUNDS",
    "MIN_PER_CENTROID",
    "default_train_rows",
    "sample_positions",
    "sample_rows",
    "train_index",
    "wanted_train_rows",
    "warn_of_few",
]

_log = logging.getLogger("embedkit")

MIN_PER_CENTROID = 39  # with fewer rows faiss warns that the centroids are poor
_PER_CENTROID = 64
_LEAST = 32768
_SAMPLE_BYTES = 160 * 2**20  # as float32; training copies parts of it
K_MEANS_ROUNDS = 10
_CODEBOOK = 256  # centroids of a product quantizer's part
_ROTATION_ROWS = 20480
_ROTATION_ROUNDS = 10


def default_train_rows(index: faiss.Index, rows_dim: int) -> int:
    """How many rows to train on, if that isn't said.

    Args:
        index: Not yet trained.
        rows_dim: D of the rows as stored.
    """
    return min(wanted_train_rows(index), _SAMPLE_BYTES // (4 * rows_dim))


def wanted_train_rows(index: faiss.Index) -> int:
    """How many rows an index is trained well on, in memory or not."""
    ivf = ivf_of(index)
    return max(_PER_CENTROID * ivf.nlist if ivf is not None else 0, _LEAST)


def sample_rows(
    rows: StoreRows, order: RowOrder, stop: int, count: int, seed: int
) -> NDArray[np.floating]:
    """A random sample, each row once, over all positions before ``stop``.

    Returns:
        ``(min(count, stop), D)`` as stored.
    """
    chosen = sample_positions(stop, count, seed)
    # Read in the files' order, then mixed again: learning from a part takes the first rows.
    distinct, back = np.unique(order.at(chosen), return_inverse=True)
    return rows.read(distinct)[back]


def sample_positions(stop: int, count: int, seed: int) -> NDArray[np.int64]:
    """Random positions before ``stop``, each once, ``(min(count, stop),)``."""
    rng = np.random.default_rng(seed)
    return rng.choice(stop, min(count, stop), replace=False).astype(np.int64)


def train_index(index: faiss.Index, vectors: NDArray[np.float32], seed: int) -> None:
    """Trains an index; k-means runs on the GPU if there is one.

    Args:
        index: Not yet trained.
        vectors: ``(n, dim)`` a sample, in the index's space.
        seed: Seed of k-means.

    Raises:
        RuntimeError: There are too few rows for the index.
    """
    kept = list(_prepare_quantizers(index, seed))
    ivf = ivf_of(index)
    helper = None
    if ivf is not None:
        ivf.cp.niter, ivf.cp.seed = K_MEANS_ROUNDS, seed
        ivf.cp.max_points_per_centroid = max(MIN_PER_CENTROID, len(vectors) // ivf.nlist + 1)
        ivf.cp.min_points_per_centroid = 1  # warn_of_few says it, where it can be heard
        if num_gpus():
            helper = on_gpus(faiss.IndexFlat(ivf.d, ivf.metric_type))
            ivf.clustering_index = helper
    with few_threads(_work(index, vectors)):
        index.train(vectors)
    if ivf is not None and helper is not None:
        ivf.clustering_index = None
    for step, _ in kept:
        step.pq = None


def warn_of_few(index: faiss.Index, count: int) -> None:
    """Warns if the inverted lists of an index were trained on few rows."""
    ivf = ivf_of(index)
    if ivf is not None and ivf.nlist > 1 and count < MIN_PER_CENTROID * ivf.nlist:
        _log.warning("%d rows are too few to train %d inverted lists well", count, ivf.nlist)


def _work(index: faiss.Index, vectors: NDArray[np.float32]) -> float:
    """Multiplications that the k-means of an index take, roughly."""
    ivf = ivf_of(index)
    centroids = max(_CODEBOOK, ivf.nlist if ivf is not None else 0)
    return float(vectors.size) * centroids * K_MEANS_ROUNDS


def _prepare_quantizers(
    index: faiss.Index, seed: int
) -> Iterator[tuple[faiss.OPQMatrix, faiss.ProductQuantizer]]:
    """Makes product quantizers train quietly, and OPQ in seconds rather than minutes.

    Yields:
        A rotation and the quantizer that it trains with, which is to be kept until then.
    """
    bits = 8
    for layer in layers(index):
        if hasattr(layer, "pq"):
            layer.pq.cp.min_points_per_centroid, layer.pq.cp.seed = 1, seed
            bits = layer.pq.nbits
    for layer in layers(index):
        if isinstance(layer, faiss.IndexPreTransform):
            for number in range(layer.chain.size()):
                step = faiss.downcast_VectorTransform(layer.chain.at(number))
                if isinstance(step, faiss.OPQMatrix):
                    step.niter, step.max_train_points = _ROTATION_ROUNDS, _ROTATION_ROWS
                    quantizer = faiss.ProductQuantizer(step.d_out, step.M, bits)
                    quantizer.cp.min_points_per_centroid, quantizer.cp.seed = 1, seed
                    step.pq = quantizer
                    yield step, quantizer
