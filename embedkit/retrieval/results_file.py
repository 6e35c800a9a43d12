"""Searches and writes the neighbours to a file, in bounded memory for any number of queries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.retrieval.knn_graph import Graph
from embedkit.retrieval.queries import StoreQueries, as_queries
from embedkit.retrieval.query_embedder import EmbedderConfig
from embedkit.retrieval.results_schema import COLUMNS, check_suffix, neighbor_columns
from embedkit.retrieval.search import SearchConfig, open_search
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import reporting
from embedkit.utils.table_writers import open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from embedkit.engines import EngineName
    from embedkit.index import Index
    from embedkit.retrieval.queries import Query
    from embedkit.retrieval.search import Search
    from embedkit.store import EmbeddingStore
    from embedkit.types import ImageFailure, SearchResult
    from embedkit.utils.progress import ProgressCallback

__all__ = ["SearchSummary", "search_to_file"]

_PART_QUERIES = 4096


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """The result of a search into a file.

    Attributes:
        path: The file.
        queries: Number of queries.
        neighbors: Number of rows of the table.
        resumed: Number of queries that an earlier run had done.
        failures: Queries that could not be read or decoded.
    """

    path: Path
    queries: int
    neighbors: int
    resumed: int = 0
    failures: tuple[ImageFailure, ...] = ()


@plain_numbers
def search_to_file(
    index: str | os.PathLike[str] | Index | EmbeddingStore,
    queries: Query | Iterable[Query],
    output: str | os.PathLike[str],
    k: int = 10,
    *,
    overwrite: bool = False,
    part_queries: int | None = None,
    on_result: Callable[[SearchResult], None] | None = None,
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
) -> SearchSummary:
    """Searches, and writes the neighbours to a CSV, JSON lines or Parquet file as they are found.

    The columns are ``query_id``, ``rank`` (from 1), ``neighbor_id`` and ``score``, one row per
    neighbour, best first. The file appears when it is complete. If all queries are rows of stores
    and the file is Parquet, an interrupted run is resumed when it is started again with the same
    arguments, and the file is byte-identical.

    Args:
        index: As ``search``'s.
        queries: As ``search``'s.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        k: Neighbours per query.
        overwrite: Replace an existing file, and discard an interrupted run.
        part_queries: Queries per committed part; None is 4096.
        on_result: Called with each result; such a run can't be resumed.
        threshold: As ``search``'s.
        exclude_self: As ``search``'s.
        filters: As ``search``'s.
        stores: As ``search``'s.
        weights: As ``search``'s.
        engine: As ``search``'s.
        device: As ``search``'s.
        batch_size: As ``search``'s.
        workers: As ``search``'s.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: ``output`` exists or can't be written, or a store can't be read.
        StoreMismatchError: An interrupted run had other arguments.
        StoreLockedError: Another process is writing ``output``.
        EmbedkitError: As ``search``.
        ValueError: An argument is out of its range.
    """
    path = Path(output)
    suffix = check_suffix(path)
    if part_queries is not None and part_queries < 1:
        raise ValueError(f"part_queries must be at least 1, not {part_queries}")
    given = as_queries(queries)
    _refuse_query(path, given)
    embedder = EmbedderConfig(weights, engine, device, batch_size, workers)
    settings = SearchConfig(threshold, exclude_self, filters, stores, embedder)
    with reporting(progress), open_search(index, given, k, settings) as ready:
        rows = [one for one in ready.queries if isinstance(one, StoreQueries)]
        if suffix == ".parquet" and on_result is None and len(rows) == len(ready.queries):
            config = _config(ready, rows, settings, part_queries or _PART_QUERIES)
            return _write_graph(ready, rows, path, config, overwrite)
        if path.exists() and not overwrite:
            raise _exists(path)
        return _write_stream(ready, path, suffix, on_result)


def _write_stream(
    ready: Search,
    path: Path,
    suffix: str,
    on_result: Callable[[SearchResult], None] | None,
) -> SearchSummary:
    queries = 0
    failures: list[ImageFailure] = []
    with atomic_file(path) as file, open_table(suffix, file, COLUMNS) as table:
        for result in ready.results():
            table.write(neighbor_columns(result))
            queries += len(result.queries)
            failures += result.failures
            if on_result is not None:
                on_result(result)
    return SearchSummary(path, queries, table.rows, failures=tuple(failures))


def _write_graph(
    ready: Search,
    rows: Sequence[StoreQueries],
    path: Path,
    config: dict[str, Any],
    overwrite: bool,
) -> SearchSummary:
    queries = sum(one.count or 0 for one in rows)
    with Graph.locked(path, config) as graph:
        if overwrite:
            graph.clear()
        elif path.exists():
            finished = graph.finished_before()
            if finished is None:
                raise _exists(path)
            graph.clear()  # killed between the file's last step and the tidying up
            return SearchSummary(path, queries, finished, queries)
        graph.begin_or_resume()
        counts = graph.run(ready, rows)
    return SearchSummary(path, queries, counts.neighbors, counts.resumed)


def _config(
    ready: Search, rows: Sequence[StoreQueries], settings: SearchConfig, part_queries: int
) -> dict[str, Any]:
    """Everything that decides the neighbours; index and stores by their content."""
    metadata = ready.result_filter.metadata
    uses_metadata = bool(settings.filters) or ready.result_filter.exclude_self
    stores = metadata.stores if metadata is not None and uses_metadata else ()
    return {
        "index": ready.index.digest,
        "queries": [one.store.fingerprint for one in rows],
        "k": ready.k,
        "threshold": ready.result_filter.threshold,
        "exclude_self": ready.result_filter.exclude_self,
        "filters": list(settings.filters),
        "stores": [store.fingerprint for store in stores],
        "part_queries": part_queries,
    }


def _refuse_query(output: Path, queries: Sequence[Query]) -> None:
    """Refuses an output that is one of the queries, which ``overwrite`` would destroy."""
    for name in (one for one in queries if isinstance(one, str | os.PathLike)):
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise StoreError(f"{output}: is one of the queries; choose another output")


def _exists(path: Path) -> StoreError:
    return StoreError(f"{path}: exists already; overwrite=True replaces it")
