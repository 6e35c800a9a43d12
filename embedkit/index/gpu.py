"""What a GPU does while an index is built: the search among centroids, in k-means and adding.

Both are most of the work, and both are a search in a flat index; so that alone is put on the GPU,
in float16, spread over all that there are, and the index itself stays in the CPU's format.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import faiss

from embedkit.index.families import ivf_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["num_gpus", "on_gpus", "with_fast_quantizer"]


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
def with_fast_quantizer(index: faiss.Index, *, wanted: bool | None = None) -> Iterator[None]:
    """Lets rows be assigned to inverted lists on the GPU, while the block runs.

    Args:
        index: A trained index; one without inverted lists is left as it is.
        wanted: Whether to; None if there is a GPU.
    """
    ivf = ivf_of(index)
    wanted = num_gpus() > 0 if wanted is None else wanted
    if ivf is None or not wanted or not isinstance(ivf.quantizer, faiss.IndexFlat):
        yield
        return
    slow, fast = ivf.quantizer, on_gpus(ivf.quantizer)
    ivf.quantizer = fast
    try:
        yield
    finally:
        ivf.quantizer = slow
