"""Queries of a search: images, vectors, rows of stores or ids of the index, read in batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.errors import SourceError, StoreError
from embedkit.extraction.image_inputs import is_in_memory, one_or_many, record_of
from embedkit.extraction.source_images import policy_of
from embedkit.sources import open_source
from embedkit.store import EmbeddingStore, is_store
from embedkit.types import ImageFailure
from embedkit.utils.vectors import first_not_finite, refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.extraction.image_inputs import ImageLike
    from embedkit.retrieval.metadata import StoreMetadata
    from embedkit.retrieval.query_embedder import QueryEmbedder, QueryTarget
    from embedkit.types import ImageRecord

    Query = ImageLike | NDArray[np.floating]

__all__ = [
    "IdQueries",
    "ImageQueries",
    "Queries",
    "QueryBatch",
    "StoreQueries",
    "VectorQueries",
    "as_queries",
    "kind_of_query",
    "open_queries",
]

_ID = "id:"
_ROWS = 1024  # of a store, per batch


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Some queries, in order.

    Attributes:
        ids: n ids.
        vectors: ``(n, D)`` float16 or float32.
        content_hashes: ``(n, 32)`` uint8, SHA-256 of the images' bytes.
        store: The store that the queries are rows of; None if they are none.
        failures: Queries of this batch that can't be read or decoded.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.floating]
    content_hashes: NDArray[np.uint8]
    failures: tuple[ImageFailure, ...] = ()
    store: EmbeddingStore | None = None


class Queries(ABC):
    """Queries of one kind.

    Attributes:
        count: Number of queries; None if it isn't known beforehand.
    """

    count: int | None = None

    @abstractmethod
    def batches(self) -> Iterator[QueryBatch]:
        """All queries, in order, in batches of bounded size."""

    def close(self) -> None:  # noqa: B027  # most kinds have nothing to close
        """Closes the open files."""


class ImageQueries(Queries):
    """Images, embedded with the settings of the index.

    Args:
        records: Lists the images.
        names: What they were given as, for the message if there is none.
        embedder: Embeds them.
        dim: D.
    """

    def __init__(
        self,
        records: Callable[[], Iterable[ImageRecord]],
        names: Sequence[str],
        embedder: QueryEmbedder,
        dim: int,
    ) -> None:
        self._records, self._names = records, tuple(names)
        self._embedder = embedder
        self._dim = dim

    def batches(self) -> Iterator[QueryBatch]:
        """The images that can be embedded; the others are failures.

        Raises:
            SourceError: There isn't one image.
        """
        found = 0
        for part in self._embedder.embed(self._records()):
            found += part.counts.embedded + part.counts.failed
            if part.rows is None:
                yield _empty_batch(self._dim, part.failures)
                continue
            ids = tuple(name.decode("utf-8", "surrogateescape") for name in part.rows.ids)
            hashes = part.rows.images["content_hash"]
            yield QueryBatch(ids, part.rows.embeddings, hashes, part.failures)
        if not found:
            raise SourceError(f"{', '.join(self._names)}: no image found")


class VectorQueries(Queries):
    """Embeddings that the caller has.

    Args:
        vectors: ``(n, D)``, or ``(D,)`` for one.
        first: The number of the first one among all queries.
        dim: D.

    Raises:
        ValueError: They have another shape, or values that aren't finite.
    """

    def __init__(self, vectors: NDArray[np.floating], first: int, dim: int) -> None:
        rows = np.atleast_2d(vectors)
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise ValueError(f"a query is an array of {vectors.shape}: it must be ({dim},)")
        self.count = len(rows)
        self._names = tuple(f"vector {first + number}" for number in range(len(rows)))
        self._vectors = rows if rows.dtype == np.float16 else rows.astype(np.float32)
        if (bad := first_not_finite(self._vectors)) is not None:
            raise ValueError(f"{self._names[bad]} holds values that aren't finite")

    def batches(self) -> Iterator[QueryBatch]:
        """All of them, in order."""
        for start in range(0, len(self._vectors), _ROWS):
            rows = self._vectors[start : start + _ROWS]
            no_hashes = np.zeros((len(rows), 32), np.uint8)  # which no image has
            yield QueryBatch(self._names[start : start + _ROWS], rows, no_hashes)


class StoreQueries(Queries):
    """All rows of a store.

    Raises:
        StoreError: It can't be read.
        IndexMismatchError: It was embedded with other settings than the index.
    """

    def __init__(self, path: str, index: QueryTarget) -> None:
        with ExitStack() as stack:
            self.store = stack.enter_context(EmbeddingStore.open(path))
            index.check_compatible(self.store.meta)
            stack.pop_all()
        self.count = len(self.store)

    def batches(self) -> Iterator[QueryBatch]:
        """The rows, in order."""
        return self.rows(0, len(self.store))

    def rows(self, start: int, stop: int) -> Iterator[QueryBatch]:
        """The rows from ``start`` to ``stop``, in order.

        Raises:
            StoreError: A row isn't finite.
        """
        while start < stop:
            number, first = self.store.locate(start)
            shard = self.store.shard(number)
            last = min(first + min(_ROWS, stop - start), len(shard))
            ids = tuple(n.decode("utf-8", "surrogateescape") for n in shard.ids(first, last))
            vectors = shard.read(np.arange(first, last))
            refuse_not_finite(vectors, ids, self.store.path)
            hashes = shard.image_column("content_hash", first, last)
            yield QueryBatch(ids, vectors, hashes, store=self.store)
            start += last - first

    def close(self) -> None:
        """Closes the store."""
        self.store.close()


class IdQueries(Queries):
    """Ids of the index; the queries are their stored rows."""

    def __init__(self, ids: Sequence[str], metadata: StoreMetadata, dim: int) -> None:
        self._ids = tuple(ids)
        self._metadata = metadata
        self._dim = dim
        self.count = len(ids)

    def batches(self) -> Iterator[QueryBatch]:
        """All ids; an id that is in no store is a failure."""
        rows = self._metadata.rows_of(self._ids).tolist()
        there = [(name, row) for name, row in zip(self._ids, rows, strict=True) if row >= 0]
        failures = tuple(
            ImageFailure(name, "no image of this id in the index's stores")
            for name, row in zip(self._ids, rows, strict=True)
            if row < 0
        )
        if not there:
            yield _empty_batch(self._dim, failures)
            return
        found = np.array([row for _, row in there])
        vectors, hashes = self._metadata.read(found), self._metadata.content_hashes[found]
        yield QueryBatch(tuple(name for name, _ in there), vectors, hashes, failures)


def _empty_batch(dim: int, failures: tuple[ImageFailure, ...]) -> QueryBatch:
    return QueryBatch((), np.empty((0, dim), np.float32), np.empty((0, 32), np.uint8), failures)


def as_queries(queries: Query | Iterable[Query]) -> list[Query]:
    """The queries as a list: a single one may be given without one.

    A 2-D array of floats is one query of several vectors.

    Raises:
        ValueError: It is neither a query nor an iterable of queries.
    """
    if isinstance(queries, np.ndarray) and queries.dtype.kind == "f":
        return [queries]
    return list(one_or_many(queries))


def kind_of_query(query: Any) -> Literal["id", "store", "source", "image", "vector"]:
    """What a query is.

    Returns:
        ``id`` for ``id:…``, ``store`` for a store, ``source`` for any other name or path, ``image``
        for an image in memory, ``vector`` for embeddings.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(query, str | os.PathLike):
        name = os.fsdecode(query)
        return "id" if name.startswith(_ID) else "store" if is_store(name) else "source"
    if is_in_memory(query):
        return "image"
    if isinstance(query, np.ndarray) and query.dtype.kind == "f":
        return "vector"
    raise ValueError(
        f"a query is {type(query).__qualname__}: it must be a path, bytes, a PIL image, an array "
        "(H, W, 3) uint8 or a vector (D,) of floats"
    )


def open_queries(
    queries: Sequence[Query],
    index: QueryTarget,
    embedder: QueryEmbedder,
    metadata: StoreMetadata | None,
) -> list[Queries]:
    """Opens queries, in order.

    Args:
        queries: ``id:ID``, stores, whatever ``open_source`` takes, images and vectors.
        index: The index.
        embedder: For images.
        metadata: The index's stores, for ids.

    Raises:
        SourceError: A source can't be opened.
        StoreError: A store can't be read, or a query is an id and there is no store.
        IndexMismatchError: A store was embedded with other settings than the index.
        DecodeError: A PIL image can't be loaded.
        ValueError: Nothing was given, or something that is no query.
    """
    if not queries:
        raise ValueError("nothing to search with: give an image, a folder, a store or id:ID")
    opened: list[Queries] = []
    try:
        for kind, group in groupby(_numbered(queries), lambda one: kind_of_query(one[1])):
            opened += _open_some(kind, list(group), index, embedder, metadata)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _numbered(queries: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Queries with their numbers; several vectors in one array have one each."""
    number = 0
    for query in queries:
        yield number, query
        is_several = kind_of_query(query) == "vector" and np.ndim(query) > 1
        number += len(query) if is_several else 1


def _open_some(
    kind: str,
    numbered: Sequence[tuple[int, Any]],
    index: QueryTarget,
    embedder: QueryEmbedder,
    metadata: StoreMetadata | None,
) -> Iterator[Queries]:
    """Opens queries of one kind, which come with their positions."""
    dim = index.meta.feature_dim
    if kind == "vector":
        yield from (VectorQueries(vectors, number, dim) for number, vectors in numbered)
        return
    if kind == "image":
        policy = policy_of(index.meta)
        records = [record_of(image, number, policy) for number, image in numbered]
        yield ImageQueries(lambda: records, [one.id for one in records], embedder, dim)
        return
    names = [os.fsdecode(name) for _, name in numbered]
    if kind == "source":
        yield ImageQueries(open_source(names, labels="none").scan, names, embedder, dim)
    elif kind == "store":
        yield from (StoreQueries(name, index) for name in names)
    else:
        yield _id_queries(names, index, metadata)


def _id_queries(
    names: Sequence[str], index: QueryTarget, metadata: StoreMetadata | None
) -> IdQueries:
    if metadata is None:
        raise StoreError(
            f"{index.path}: {names[0]} needs the store that the index was built of: stores=FILE"
        )
    return IdQueries([name.removeprefix(_ID) for name in names], metadata, index.meta.feature_dim)
