"""Parts of an index: each holds some of its rows, in inverted lists that are joined in the end.

A part has the training of its index, but for what only says which list a row goes to: its file
holds no centroids. The lists of 4-bit codes that faiss scans fastest are packed by 32 rows and
can't be joined; their parts hold the same codes unpacked, which are packed when they are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_io import write_faiss
from embedkit.index.faiss_types import is_mergeable, ivf_of, layers
from embedkit.index.inverted_lists import copy_lists, merge_lists, set_count, sizes_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["join_parts", "missing_spans", "part_of", "write_part"]

_PACKED_BYTES = 256 * 2**20  # of codes that are packed together


def part_of(index: faiss.Index) -> faiss.Index | None:
    """An empty index that takes some rows of a trained, empty one; valid as long as that is.

    Returns:
        The index itself if its lists can be joined as they are; None if rows of such an index can't
        be added in parts.
    """
    if is_mergeable(index):
        return index
    ivf = ivf_of(index)
    if not isinstance(ivf, faiss.IndexIVFPQFastScan) or _is_refined(index):
        return None
    quantizer = ivf.pq
    plain = faiss.IndexIVFPQ(
        ivf.quantizer, ivf.d, ivf.nlist, quantizer.M, quantizer.nbits, ivf.metric_type
    )
    plain.pq, plain.by_residual, plain.is_trained = quantizer, ivf.by_residual, ivf.is_trained
    if not isinstance(index, faiss.IndexPreTransform):
        return plain
    part = faiss.IndexPreTransform(plain)
    for number in reversed(range(index.chain.size())):
        part.prepend_transform(index.chain.at(number))
    return part


def write_part(part: faiss.Index, write: Callable[[bytes], int]) -> None:
    """Writes the lists of a part to a file that is open."""
    ivf = ivf_of(part)
    assert ivf is not None
    quantizer = ivf.quantizer
    ivf.quantizer = nothing = faiss.IndexFlat(ivf.d, ivf.metric_type)  # which isn't kept by it
    try:
        write_faiss(ivf, write)
    finally:
        ivf.quantizer = quantizer
        del nothing


def join_parts(index: faiss.Index, parts: Sequence[Path]) -> None:
    """Joins the lists of parts in memory.

    Args:
        index: Trained and empty.
        parts: Files of ``write_part``, whose rows have their positions as ids; in order.
    """
    if is_mergeable(index):
        merge_lists(index, parts)
        return
    joined = part_of(index)
    assert joined is not None
    plain, packed = ivf_of(joined), ivf_of(index)
    assert plain is not None
    assert packed is not None
    sizes = sizes_of_parts(index, parts)
    for numbers in _groups(sizes * plain.code_size):
        merge_lists(plain, parts, numbers)
        copy_lists(index, faiss.IndexIVFPQFastScan(plain, packed.bbs), numbers)
        plain.reset()
    set_count(index, int(sizes.sum()))


def missing_spans(
    parts: Sequence[tuple[int, int, Path]], stop: int, step: int
) -> Iterator[tuple[int, int]]:
    """The positions before ``stop`` that are in no part, as spans of at most ``step``.

    Args:
        parts: First position, last position + 1, and file of each; in order.
        stop: The last position + 1.
        step: The most positions of a span.
    """
    done = 0
    for first, last, _ in (*parts, (stop, stop, None)):
        for start in range(done, min(first, stop), step):
            yield start, min(start + step, first, stop)
        done = max(done, last)


def _groups(nbytes: NDArray[np.int64]) -> Iterator[range]:
    """Consecutive lists that together take about ``_PACKED_BYTES``, or one that takes more."""
    number_of_group = np.cumsum(nbytes) // _PACKED_BYTES
    edges = np.flatnonzero(np.diff(number_of_group, prepend=-1, append=-1))
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield range(first, last)


def _is_refined(index: faiss.Index) -> bool:
    return any(isinstance(layer, faiss.IndexRefine) for layer in layers(index))
