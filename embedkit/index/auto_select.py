"""Chooses an index from the number of rows, their dimension and the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.index.faiss_types import is_exact, is_mergeable, make_index, num_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.index.spec import IndexSpec

__all__ = ["BUILD_BYTES", "Choice", "choose", "divisor_near", "num_lists"]

BUILD_BYTES = 512 * 2**20
"""Memory of a build besides the index: the process, the sample, buffers."""

_FLAT_MS = 10.0  # default maximum time of an exact search
_SCAN_BYTES_PER_MS = 8e6  # memory that one query scans per millisecond
_ROWS_PER_LIST = 39  # fewer train an inverted list badly
_FEW = 1000  # rows; fewer can't train an index
_GRAPH_ROWS = 20_000_000  # above, building a graph takes days


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen index.

    Attributes:
        factory: The faiss factory string.
        rerank: Whether candidates are reranked with the stores' rows.
        on_disk: Whether the inverted lists stay on disk.
        nbytes: Memory that searching will take, without the ids.
        build_bytes: Memory that building will take.
        reason: The reason, in a few words.
    """

    factory: str
    rerank: bool
    on_disk: bool
    nbytes: int
    build_bytes: int
    reason: str


def choose(spec: IndexSpec, count: int, rows_dim: int) -> Choice:
    """Chooses an index.

    Args:
        spec: The requested settings.
        count: N rows.
        rows_dim: D of the stored rows.

    Raises:
        ValueError: The settings can't be met, for example within the memory limit.
    """
    dim = spec.whiten or rows_dim
    if dim > rows_dim:
        raise ValueError(f"can't whiten rows of {rows_dim} values to {dim}")
    if spec.factory != "auto":
        return _described(spec, spec.factory, "as requested", count, dim)
    if _is_flat_enough(spec, count, dim):
        return _described(spec, "Flat", "comparing with every row is fast enough", count, dim)
    candidates = list(_candidates(spec, count, dim))
    for factory, reason in candidates:
        choice = _described(spec, factory, reason, count, dim)
        if spec.memory is None or choice.nbytes <= spec.memory:
            return choice
    least = min(_described(spec, factory, "", count, dim).nbytes for factory, _ in candidates)
    raise ValueError(
        f"{count} rows don't fit into {spec.memory} bytes: the smallest index takes {least}; "
        "give more memory, or keep the inverted lists on disk"
    )


def _described(spec: IndexSpec, factory: str, reason: str, count: int, dim: int) -> Choice:
    index = make_index(factory, dim, spec.metric)
    rerank = not is_exact(index) if spec.rerank is None else spec.rerank
    if spec.on_disk and not is_mergeable(index):
        raise ValueError(f"{factory} has no inverted lists that can stay on disk; IVF…,SQ8 has")
    nbytes = num_bytes(index, 0 if spec.on_disk else count)
    return Choice(factory, rerank, spec.on_disk, nbytes, nbytes + BUILD_BYTES, reason)


def _is_flat_enough(spec: IndexSpec, count: int, dim: int) -> bool:
    if spec.on_disk:
        return False
    nbytes = 4 * count * dim
    if spec.memory is not None and nbytes > spec.memory and count >= _FEW:
        return False
    return count < _FEW or nbytes / _SCAN_BYTES_PER_MS <= (spec.latency or _FLAT_MS)


def _candidates(spec: IndexSpec, count: int, dim: int) -> Iterator[tuple[str, str]]:
    """Factories, the best first, each smaller than the one before."""
    lists = f"IVF{num_lists(count)}"
    if spec.on_disk:
        yield f"{lists},SQ8", "lists of 8-bit codes on disk"
        return
    if spec.rerank is False:
        yield from _self_contained(lists, count, dim)
        return
    for bits, share in (("a bit", 4), ("half a bit", 8)):
        parts = divisor_near(dim, dim // share)
        yield f"{lists},PQ{parts}x4fs", f"{bits} a value, exact scores from the store's rows"
    for bits, share in (("a quarter of a bit", 16), ("an eighth of a bit", 32)):
        parts = max(1, dim // share)
        if parts >= 2:
            yield (
                f"OPQ{parts}_{4 * parts},{lists},PQ{parts}x4fs",
                f"{bits} a value to fit the memory, exact scores from the store's rows",
            )


def _self_contained(lists: str, count: int, dim: int) -> Iterator[tuple[str, str]]:
    """Indexes whose own scores are good, for use without reranking from the store."""
    if count <= _GRAPH_ROWS:
        yield "HNSW32", "exact scores without the store"
    yield f"{lists},SQfp16", "nearly exact scores without the store"
    yield f"{lists},SQ8", "close scores without the store"
    parts = divisor_near(dim, dim // 4)
    yield f"OPQ{parts},{lists},PQ{parts}", "rough scores without the store"
    yield f"{lists},RaBitQ", "a bit a value, rough scores without the store"


def num_lists(count: int) -> int:
    """Number of inverted lists for ``count`` rows: the power of two near 4 * sqrt(count).

    Of less than 1,000 rows each list is trained on 39 or more.
    """
    if count < _FEW:
        return int(2 ** int(math.log2(max(count // _ROWS_PER_LIST, 1))))
    return int(2 ** min(max(round(math.log2(4 * math.sqrt(count))), 4), 16))


def divisor_near(dim: int, target: int) -> int:
    """The divisor of ``dim`` that is nearest to ``target``, by their ratio."""
    divisors = [n for n in range(1, dim + 1) if dim % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / max(target, 1))))
