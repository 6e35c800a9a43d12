"""Families of faiss indexes: structure, size, and search parameters."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import faiss

from embedkit.errors import IndexCorruptError, IndexFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.index.spec import Metric

__all__ = [
    "SearchParams",
    "adds_at_once",
    "can_rename",
    "complete",
    "faiss_errors",
    "faiss_metric",
    "faiss_reason",
    "is_exact",
    "is_mergeable",
    "ivf_of",
    "layers",
    "least_rows",
    "make_index",
    "num_bytes",
    "reserve",
    "search_grid",
    "set_params",
    "transformed",
]

_WIDEST = 4096  # maximum number of lists or graph nodes visited per query
_LEAST_LINKS = 2  # with fewer, faiss divides by zero
_LEAST_GRAPH_ROWS = 101  # faiss builds NSG and NNDescent of no fewer
_BLOCK_VECTORS = 32  # block size of fast-scan codes


@dataclass(frozen=True, slots=True)
class SearchParams:
    """Search parameters.

    Attributes:
        nprobe: Inverted lists that are scanned, where there are such.
        ef_search: Nodes of the graph that are kept in view, where there is one.
        k_factor: Candidates per requested neighbour, if candidates are reranked.
    """

    nprobe: int | None = None
    ef_search: int | None = None
    k_factor: int = 1

    def to_config(self) -> dict[str, int | None]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SearchParams:
        """Reads what ``to_config`` wrote."""
        return cls(config.get("nprobe"), config.get("ef_search"), config.get("k_factor", 1))

    def __str__(self) -> str:
        settings = ((key, value) for key, value in asdict(self).items() if value is not None)
        return " ".join(f"{key}={value}" for key, value in settings)


@contextmanager
def faiss_errors(path: Path) -> Iterator[None]:
    """Maps what faiss raises to embedkit's errors."""
    try:
        yield
    except MemoryError as exc:
        raise IndexFileError(f"{path}: not enough memory for the index") from exc
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())
        raise IndexCorruptError(f"{path}: faiss says: {reason}") from exc


def faiss_reason(exc: RuntimeError) -> str:
    """What faiss says, without its source files."""
    text = " ".join(str(exc).split()).rpartition("Error: ")[2]
    return re.sub(r"^Error in .* at \S+:\d+: ", "", text)


def faiss_metric(metric: Metric) -> int:
    """The metric by which faiss compares vectors of the space."""
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def make_index(factory: str, dim: int, metric: Metric) -> faiss.Index:
    """An empty index, not yet trained.

    Raises:
        ValueError: faiss makes no such index.
    """
    try:
        index = faiss.index_factory(dim, factory, faiss_metric(metric))
    except RuntimeError as exc:
        raise ValueError(
            f"faiss makes no {factory!r} of {dim} values, {metric}: {faiss_reason(exc)}"
        ) from exc
    if any(isinstance(layer, faiss.IndexIDMap | faiss.IndexIDMap2) for layer in layers(index)):
        raise ValueError(f"{factory!r}: without IDMap, the index keeps the ids itself")
    if isinstance(index, faiss.IndexLattice):
        raise ValueError(f"{factory!r}: faiss writes such an index but can't read it")
    _refuse_degenerate(factory, index)
    for layer in layers(index):
        if hasattr(layer, "do_polysemous_training"):
            layer.do_polysemous_training = False  # takes a minute, and only Hamming search needs it
    return index


def _refuse_degenerate(factory: str, index: faiss.Index) -> None:
    """Refuses sizes that faiss parses, but on which it fails later or ends the process.

    Raises:
        ValueError: A graph without links, or no inverted lists.
    """
    parts = list(layers(index))
    ivf = ivf_of(index)
    if ivf is not None:
        if ivf.nlist < 1:
            raise ValueError(f"{factory!r}: an index needs at least one inverted list, as in IVF1")
        parts += layers(faiss.downcast_index(ivf.quantizer))
    for part in parts:
        if isinstance(part, faiss.IndexHNSW):
            has_levels = part.hnsw.cum_nneighbor_per_level.size() > 1
            links = part.hnsw.nb_neighbors(0) // 2 if has_levels else 0
        elif isinstance(part, faiss.IndexNSG):
            links = part.nsg.R
        elif isinstance(part, faiss.IndexNNDescent):
            links = part.nndescent.K
        else:
            continue
        if links < _LEAST_LINKS:
            raise ValueError(
                f"{factory!r}: a graph needs at least {_LEAST_LINKS} links per node, as in HNSW32"
            )


def least_rows(index: faiss.Index) -> int:
    """How many rows an index needs, so that faiss can train it and build its graph."""
    ivf = ivf_of(index)
    needed = 0 if ivf is None else ivf.nlist
    for layer in layers(index):
        if isinstance(layer, faiss.IndexNSG | faiss.IndexNNDescent):
            needed = max(needed, _LEAST_GRAPH_ROWS)
        if hasattr(layer, "pq"):
            needed = max(needed, int(layer.pq.ksub))
    return needed


def layers(index: faiss.Index) -> Iterator[faiss.Index]:
    """The index and what it wraps, the outermost first; valid as long as ``index`` is."""
    while index is not None:
        yield index
        if isinstance(index, faiss.IndexPreTransform | faiss.IndexIDMap | faiss.IndexIDMap2):
            index = faiss.downcast_index(index.index)
        elif isinstance(index, faiss.IndexRefine):
            index = faiss.downcast_index(index.base_index)
        elif isinstance(index, faiss.IndexHNSW | faiss.IndexNSG):
            index = faiss.downcast_index(index.storage)
        else:
            return


def ivf_of(index: faiss.Index) -> faiss.IndexIVF | None:
    """The layer with inverted lists, if there is one."""
    return next((layer for layer in layers(index) if isinstance(layer, faiss.IndexIVF)), None)


def transformed(index: faiss.Index, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors as the inverted lists see them."""
    if isinstance(index, faiss.IndexPreTransform):
        for number in range(index.chain.size()):
            vectors = index.chain.at(number).apply(vectors)
    return vectors


def is_exact(index: faiss.Index) -> bool:
    """Whether the index keeps the vectors themselves, so that its scores are exact."""
    kept = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexRefineFlat)
    graphs = (faiss.IndexHNSW, faiss.IndexNSG)
    first, *inner = layers(index)
    return isinstance(first, kept) or (
        isinstance(first, graphs) and isinstance(inner[0], faiss.IndexFlat)
    )


def is_mergeable(index: faiss.Index) -> bool:
    """Whether inverted lists of several indexes can be joined without decoding."""
    ivf = ivf_of(index)
    if ivf is None or any(isinstance(layer, faiss.IndexRefine) for layer in layers(index)):
        return False
    lists = faiss.downcast_InvertedLists(ivf.invlists)
    return isinstance(lists, faiss.ArrayInvertedLists | faiss.OnDiskInvertedLists)


def can_rename(index: faiss.Index) -> bool:
    """Whether vectors have ids in inverted lists, and nothing else counts on them."""
    refines = any(isinstance(layer, faiss.IndexRefine) for layer in layers(index))
    return ivf_of(index) is not None and not refines


def adds_at_once(index: faiss.Index) -> bool:
    """Whether all rows must be added in one go, and none can be added later."""
    return any(isinstance(layer, faiss.IndexNSG | faiss.IndexNNDescent) for layer in layers(index))


def complete(index: faiss.Index) -> faiss.Index:
    """Makes what faiss neither writes to a file nor makes when it reads one: NSG's table for PQ."""
    *_, storage = layers(index)
    if adds_at_once(index) and isinstance(storage, faiss.IndexPQ) and storage.is_trained:
        storage.pq.compute_sdc_table()
    return index


def num_bytes(index: faiss.Index, count: int) -> int:
    """The memory that the index takes with ``count`` vectors, to some percent."""
    total = 0.0
    for layer in layers(index):
        if isinstance(layer, faiss.IndexPreTransform):
            chain = [layer.chain.at(i) for i in range(layer.chain.size())]
            total += sum(4 * step.d_in * step.d_out for step in chain)
        elif isinstance(layer, faiss.IndexIVF):
            total += 4 * layer.nlist * layer.d + count * (layer.code_size + 8)
        elif isinstance(layer, faiss.IndexRefine):
            total += count * layer.refine_index.sa_code_size()
        elif isinstance(layer, faiss.IndexHNSW):
            total += count * _link_bytes(layer)
        elif isinstance(layer, faiss.IndexNSG):
            total += count * 4 * layer.nsg.R
        elif hasattr(layer, "code_size"):
            total += -(-count // _BLOCK_VECTORS) * _BLOCK_VECTORS * layer.code_size
    return int(total)


def _link_bytes(graph: faiss.IndexHNSW) -> float:
    """Links, their offset and the level of a node; few are on more than the lowest level."""
    lowest = int(graph.hnsw.nb_neighbors(0))
    return 4 * lowest * (1 + 1.0 / lowest) + 12


def reserve(index: faiss.Index, count: int) -> None:
    """Takes the memory for ``count`` vectors at once: growing would need up to twice as much."""
    for layer in layers(index):
        if isinstance(layer, faiss.IndexFlatCodes):
            _reserve(layer.codes, count * layer.code_size)
        elif isinstance(layer, faiss.IndexRefineFlat):
            storage = faiss.downcast_index(layer.refine_index)
            _reserve(storage.codes, count * storage.code_size)
        elif isinstance(layer, faiss.IndexHNSW):
            lowest = layer.hnsw.nb_neighbors(0)
            _reserve(layer.hnsw.neighbors, int(count * lowest * 1.05) + 10 * lowest)


def _reserve(vector: Any, size: int) -> None:
    """A vector that shrinks keeps its memory, which is all that the bindings offer."""
    before = vector.size()
    vector.resize(max(size, before))
    vector.resize(before)


def search_grid(index: faiss.Index) -> list[SearchParams]:
    """The search parameters worth trying, from the cheapest; one if nothing can be chosen."""
    ivf = ivf_of(index)
    if ivf is not None:
        most = min(ivf.nlist, _WIDEST)
        return [SearchParams(nprobe=n) for n in [*_doubling(1, most), most]]
    if any(isinstance(layer, faiss.IndexHNSW | faiss.IndexNSG) for layer in layers(index)):
        return [SearchParams(ef_search=n) for n in [*_doubling(16, 2048), 2048]]
    return [SearchParams()]


def _doubling(first: int, last: int) -> Iterator[int]:
    while first < last:
        yield first
        first *= 2


def set_params(index: faiss.Index, params: SearchParams) -> None:
    """Sets the search parameters; faiss reranks candidates only in its own refine index."""
    for layer in layers(index):
        if isinstance(layer, faiss.IndexRefine):
            layer.k_factor = params.k_factor
        elif isinstance(layer, faiss.IndexIVF) and params.nprobe is not None:
            layer.nprobe = min(params.nprobe, layer.nlist)
            quantizer = faiss.downcast_index(layer.quantizer)
            if isinstance(quantizer, faiss.IndexHNSW):
                quantizer.hnsw.efSearch = max(64, 2 * layer.nprobe)
        elif isinstance(layer, faiss.IndexHNSW) and params.ef_search is not None:
            layer.hnsw.efSearch = params.ef_search
        elif isinstance(layer, faiss.IndexNSG) and params.ef_search is not None:
            layer.nsg.search_L = params.ef_search
