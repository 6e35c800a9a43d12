"""Opens an index and its queries (images, stores, ids), and streams the results."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.decode.thumbnail import thumbnails_of
from embedkit.errors import StoreError
from embedkit.index import Index
from embedkit.retrieval.filtered_search import ResultFilter, filtered_search
from embedkit.retrieval.filters import Filter
from embedkit.retrieval.metadata import StoreMetadata
from embedkit.retrieval.queries import as_queries, kind_of_query, open_queries
from embedkit.retrieval.query_embedder import EmbedderConfig, QueryEmbedder
from embedkit.store import EmbeddingStore
from embedkit.types import Neighbors, SearchResult
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embedkit.engines import EngineName
    from embedkit.retrieval.queries import Queries, Query, QueryBatch
    from embedkit.types import ImageFailure
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Search", "SearchConfig", "join_results", "open_search", "search"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The settings of a search besides the queries and k; see ``search``.

    Attributes:
        threshold: Minimum score; None keeps all.
        exclude_self: Leave out the query's own id, and images of the same bytes if the stores are
            found.
        filters: Conditions on the neighbours, such as ``label=cat``; see ``Filter``.
        stores: What the index was built of; None takes ``photos.h5`` beside ``photos.index``.
            Needed for filters and for queries by id.
        embedder: How query images are embedded.

    Raises:
        ValueError: ``threshold`` is NaN.
    """

    threshold: float | None = None
    exclude_self: bool = False
    filters: Sequence[str] = ()
    stores: Sequence[str | os.PathLike[str]] | None = None
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        if self.threshold is not None and np.isnan(self.threshold):
            raise ValueError("threshold must be a number, not NaN")

    @classmethod
    def of(cls, **keywords: Any) -> Self:
        """The settings of ``search``'s keywords.

        Raises:
            TypeError: There is no such keyword.
        """
        names = {one.name for one in fields(EmbedderConfig)}
        embedder = {name: value for name, value in keywords.items() if name in names}
        own = {name: value for name, value in keywords.items() if name not in names}
        return cls(**own, embedder=EmbedderConfig(**embedder))


@dataclass(frozen=True, slots=True)
class Search:
    """A search that is ready to run.

    Attributes:
        index: The index.
        k: Neighbours per query.
        result_filter: Which neighbours are kept.
        queries: The queries.
    """

    index: Index
    k: int
    result_filter: ResultFilter
    queries: Sequence[Queries]

    def results(self) -> Iterator[SearchResult]:
        """The results in the order of the queries, in pieces of bounded size.

        Raises:
            SourceError: A source can't be listed.
            BackboneError: The index's backbone or its weights aren't available.
            IndexMismatchError: The weights here aren't those of the index.
            StoreError: A store can't be read, or lacks an image of the index.
        """
        counts = [one.count for one in self.queries]
        total = None if None in counts else sum(filter(None, counts))
        batches = (batch for one in self.queries for batch in one.batches())
        for batch in track(
            batches, "searching", total, unit="queries", size=lambda batch: len(batch.ids)
        ):
            yield self.result(batch)

    def result(self, batch: QueryBatch) -> SearchResult:
        """The neighbours of one batch."""
        if not batch.ids:
            nothing = Neighbors((), np.empty((0, self.k), np.float32))
            return SearchResult((), nothing, batch.failures, self._thumbnails)
        found = filtered_search(self.index, batch, self.k, self.result_filter)
        return SearchResult(batch.ids, found, batch.failures, self._thumbnails)

    def _thumbnails(self, ids: Sequence[str]) -> dict[str, str]:
        return thumbnails_of(ids, self.index.meta.folders())


@plain_numbers
def search(
    index: str | os.PathLike[str] | Index | EmbeddingStore,
    queries: Query | Iterable[Query],
    k: int = 10,
    *,
    threshold: float | None = None,
    exclude_self: bool = False,
    filters: Sequence[str] = (),
    stores: Sequence[str | os.PathLike[str]] | None = None,
    weights: str | os.PathLike[str] = "auto",
    engine: EngineName = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> SearchResult:
    """Finds the nearest images of each query: an image, a vector, a row of a store, or an id.

    Images are embedded with the backbone, weights, preprocessing and decoding that the index
    names. A query that can't be read or decoded is a failure and stops nothing.

    Args:
        index: An index or its folder; or a store, of which each search compares every row (an
            index is worthwhile from some 100,000 rows on).
        queries: An image (a path, encoded bytes, a PIL image, an array ``(H, W, 3)`` uint8 in RGB),
            a vector ``(D,)`` or several ``(n, D)`` of floats, a folder, list, pattern, archive or
            URL, ``-`` for paths on standard input, a store (each row is a query), ``id:ID`` for an
            image of the index, or several of them, also mixed. Images and vectors in memory are
            named by their position, from 0: ``image 0``, ``vector 0``.
        k: Neighbours per query.
        threshold: Minimum score; None keeps all.
        exclude_self: Leave out the query's own id, and images of the same bytes if the stores are
            found.
        filters: Conditions on the neighbours, such as ``label=cat``.
        stores: What the index was built of; None takes ``photos.h5`` beside ``photos.index``.
            Needed for filters and for queries by id.
        weights: Weights for images: ``auto`` (where the index's are published), or a file.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compiled``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images per batch; None takes the index's on a CPU, which gives the same bits.
        workers: Number of threads; None is one per core.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        The neighbours in the order of the queries; at most ``k`` per query.

    Raises:
        IndexFileError: The index can't be read, or ``index`` is neither an index nor a store.
        IndexMismatchError: The weights here, or a store, aren't those of the index.
        SourceError: A source can't be opened.
        BackboneError: The index's backbone or its weights aren't available.
        StoreError: A store can't be read, or is needed and not there.
        ValueError: An argument is out of its range.
    """
    embedder = EmbedderConfig(weights, engine, device, batch_size, workers)
    config = SearchConfig(threshold, exclude_self, filters, stores, embedder)
    with reporting(progress), open_search(index, queries, k, config) as ready:
        return join_results(ready.results(), k)


@contextmanager
def open_search(
    index: str | os.PathLike[str] | Index | EmbeddingStore,
    queries: Query | Iterable[Query],
    k: int = 10,
    config: SearchConfig | None = None,
) -> Iterator[Search]:
    """Opens a search whose results can be streamed.

    Args:
        index: As ``search``'s.
        queries: As ``search``'s.
        k: As ``search``'s.
        config: The other settings; None takes the defaults.

    Raises:
        EmbedkitError: As ``search``.
        ValueError: An argument is out of its range.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    config = config or SearchConfig()
    conditions = [Filter.parse(text) for text in config.filters]
    given = as_queries(queries)
    with ExitStack() as stack:
        opened = _open(index, stack)
        metadata = _metadata(opened, given, config)
        if metadata is not None:
            stack.enter_context(metadata)
        result_filter = _result_filter(opened, metadata, conditions, config)
        embedder = stack.enter_context(QueryEmbedder(opened, config.embedder))
        kinds = open_queries(given, opened, embedder, metadata)
        for one in kinds:
            stack.callback(one.close)
        yield Search(opened, k, result_filter, kinds)


def _open(index: str | os.PathLike[str] | Index | EmbeddingStore, stack: ExitStack) -> Index:
    """The index, open; one that is opened here is closed with ``stack``."""
    if isinstance(index, str | os.PathLike):
        opened = Index.open(index)
    elif isinstance(index, EmbeddingStore):
        opened = Index.of_store(index.path)
    else:
        return index
    stack.callback(opened.close)
    return opened


def _metadata(index: Index, queries: Sequence[Query], config: SearchConfig) -> StoreMetadata | None:
    """The stores' metadata, if the search needs it or its stores are given."""
    by_id = any(kind_of_query(query) == "id" for query in queries)
    needed = by_id or config.filters or config.exclude_self or config.stores is not None
    return StoreMetadata.of_index(index, config.stores) if needed else None


def _result_filter(
    index: Index,
    metadata: StoreMetadata | None,
    conditions: Sequence[Filter],
    config: SearchConfig,
) -> ResultFilter:
    allowed = None
    if conditions:
        if metadata is None:
            raise StoreError(
                f"{index.path}: a filter needs the store that the index was built of: stores=FILE"
            )
        allowed = metadata.matching(conditions)
    return ResultFilter(config.threshold, config.exclude_self, allowed, metadata)


def join_results(parts: Iterable[SearchResult], k: int) -> SearchResult:
    """Joins the pieces of one search.

    Args:
        parts: The pieces, in order.
        k: Neighbours per query.
    """
    queries: list[str] = []
    ids: list[tuple[str, ...]] = []
    scores = [np.empty((0, k), np.float32)]
    failures: list[ImageFailure] = []
    thumbnails = None
    for part in parts:
        thumbnails = part.thumbnails
        queries += part.queries
        ids += part.neighbors.ids
        scores.append(part.neighbors.scores)
        failures += part.failures
    found = Neighbors(tuple(ids), np.concatenate(scores))
    return SearchResult(tuple(queries), found, tuple(failures), thumbnails)
