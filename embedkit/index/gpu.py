"""Runs the centroid search of index training and adding on GPUs.

Both k-means and adding spend most of their time on a search in a flat index of centroids. Only
that search runs on the GPUs, in float16; the index itself stays on the CPU.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import faiss
from faiss.contrib.ivf_tools import add_preassigned

from embedkit.index.faiss_types import is_mergeable, ivf_of, layers, transformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["adding_to", "num_gpus", "on_gpus"]


def num_gpus() -> int:
    """How many GPUs faiss can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def on_gpus(index: faiss.Index) -> faiss.Index:
    """A flat index on every GPU, each taking a share of the queries; without a GPU a copy."""
    if not num_gpus():
        return faiss.clone_index(index)
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16 = True
    options.shard = False
    return faiss.index_cpu_to_all_gpus(index, options)


@contextmanager
def adding_to(
    index: faiss.Index, *, wanted: bool | None = None
) -> Iterator[Callable[[NDArray[np.float32], NDArray[np.int64]], None]]:
    """Gives what adds vectors to a trained index; inverted lists are chosen on the GPU.

    The vectors are encoded on the CPU, by its own centroids: an index that encodes residuals
    reads each centroid singly, which takes a GPU 80 us each.

    Args:
        index: A trained index.
        wanted: Whether to use GPUs; None uses them if there are any.
    """
    ivf = ivf_of(index)
    wanted = num_gpus() > 0 if wanted is None else wanted
    if ivf is None or not wanted or not isinstance(ivf.quantizer, faiss.IndexFlat):
        by_id = is_mergeable(index)
        yield index.add_with_ids if by_id else lambda vectors, _: index.add(vectors)
        return
    if not is_mergeable(index):  # fast-scan indexes assign vectors to lists themselves
        with nullcontext() if ivf.by_residual else _quantizer_on_gpus(ivf):
            yield lambda vectors, _: index.add(vectors)
        return
    quantizer = on_gpus(ivf.quantizer)

    def add(vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        inner = transformed(index, vectors)
        lists = quantizer.search(inner, 1)[1].ravel()
        add_preassigned(ivf, inner, lists, ids)
        for layer in layers(index):  # what wraps the lists counts for itself
            layer.ntotal = ivf.ntotal

    yield add


@contextmanager
def _quantizer_on_gpus(ivf: faiss.IndexIVF) -> Iterator[None]:
    slow = ivf.quantizer
    ivf.quantizer = fast = on_gpus(slow)  # which holds no reference to it
    try:
        yield
    finally:
        ivf.quantizer = slow
        del fast
