"""Answers a search as ``embedkit search`` does: the same queries, filters and scores."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.retrieval.filtered_search import ResultFilter, filtered_search
from embedkit.retrieval.queries import IdQueries, QueryBatch, VectorQueries
from embedkit.server.failure import RequestError
from embedkit.server.query_cache import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.server.served_index import ServedIndex
    from embedkit.store import RowBlock

__all__ = [
    "MOST_RESULTS",
    "Found",
    "SearchOptions",
    "command_of",
    "find",
    "query_of_class",
    "query_of_image",
    "query_of_row",
    "query_of_vectors",
]

MOST_RESULTS = 10_000
_CLASS_IMAGES = 1000  # that make the query of a class, at most


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Which results are asked for.

    Attributes:
        k: Results of the page.
        offset: Results before the page.
        min_score: The least score; None takes all.
        filters: Conditions on the results.
        exclude_self: Leave out the query itself, and images of the same bytes.
    """

    k: int
    offset: int
    min_score: float | None
    filters: Sequence[str]
    exclude_self: bool

    @property
    def depth(self) -> int:
        """Results that are searched for."""
        return self.offset + self.k


@dataclass(frozen=True, slots=True)
class Found:
    """The results of one query.

    Attributes:
        rows: Rows of the page, best first.
        scores: Their scores.
        total: How many there are to page through, at most.
    """

    rows: list[int]
    scores: list[float]
    total: int


def find(served: ServedIndex, batch: QueryBatch, options: SearchOptions) -> list[Found]:
    """Searches, for each query of a batch.

    Raises:
        StoreError: A filter is on a column or selection that isn't there.
        ValueError: A filter is none.
    """
    metadata = served.metadata
    allowed = served.matching(options.filters) if options.filters else None
    result_filter = ResultFilter(options.min_score, options.exclude_self, allowed, metadata)
    found = filtered_search(served.index, batch, options.depth, result_filter)
    possible = int(served.live.sum() if allowed is None else allowed.sum())
    results = []
    for ids, scores in zip(found.ids, found.scores, strict=True):
        rows = served.rows_of(ids[options.offset :]).tolist()
        kept = [number for number, row in enumerate(rows) if row >= 0]
        values = [float(str(score)) for score in scores[options.offset : len(ids)]]
        is_whole = len(ids) < options.depth
        total = len(ids) if is_whole else min(possible, MOST_RESULTS)
        results.append(Found([rows[n] for n in kept], [values[n] for n in kept], total))
    return results


def query_of_image(row: RowBlock) -> SearchQuery:
    """The query of an embedded image."""
    batch = QueryBatch(("image",), row.embeddings, row.images["content_hash"])
    return SearchQuery(batch, "IMAGE")


def query_of_row(served: ServedIndex, row: int) -> SearchQuery:
    """The query of an image of the index."""
    name = served.ids([row])[0]
    with served.reading():
        batch = next(IdQueries([name], served.metadata, served.index.dim).batches())
    return SearchQuery(batch, f"id:{name}")


def query_of_class(served: ServedIndex, label: str) -> SearchQuery:
    """The mean embedding of the images of a label.

    Raises:
        RequestError: 404; no image has it.
    """
    numbers, names = served.labels
    if label not in names:
        raise RequestError(404, f"no image of the index has the label {label[:80]!r}")
    rows = np.flatnonzero((numbers == names.index(label)) & served.live)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _CLASS_IMAGES)).astype(np.int64)]
    vectors = served.vectors(rows).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return query_of_vectors(served, vectors.mean(axis=0, keepdims=True))


def query_of_vectors(
    served: ServedIndex, vectors: Sequence[Sequence[float]] | NDArray[np.float32]
) -> SearchQuery:
    """The query of embeddings that the client has.

    Raises:
        RequestError: 400; they have another length than the index's, or aren't finite.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large isn't finite
            rows = np.array(vectors, np.float32)
        batch = next(VectorQueries(rows, 0, served.index.dim).batches())
    except (ValueError, OverflowError) as exc:
        raise RequestError(400, f"vectors: {' '.join(str(exc).split())}") from exc
    return SearchQuery(batch, None)


def command_of(
    served: ServedIndex, query: SearchQuery, options: SearchOptions, *, show_paths: bool
) -> str:
    """The command of the shell with the same results; empty if none has them."""
    if query.command_name is None:
        return ""
    path, name = str(served.path), query.command_name
    if not show_paths:
        path = served.path.name
        name = name if name == "IMAGE" else f"id:.../{name.rpartition('/')[2]}"
    words: list[Any] = ["embedkit", "search", path, name, "-k", options.depth]
    for one in options.filters:
        words += ["--filter", one]
    if options.min_score is not None:
        words += ["--threshold", f"{options.min_score:g}"]
    if options.exclude_self:
        words.append("--exclude-self")
    return shlex.join(map(str, words))
