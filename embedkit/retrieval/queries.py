"""Queries of a search: images, rows of stores or ids of the index, read in batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import SourceError, StoreError
from embedkit.sources import open_source
from embedkit.store import EmbeddingStore, is_store
from embedkit.types import ImageFailure
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.retrieval.metadata import StoreMetadata
    from embedkit.retrieval.query_embedder import QueryEmbedder, QueryTarget

__all__ = [
    "IdQueries",
    "ImageQueries",
    "Queries",
    "QueryBatch",
    "StoreQueries",
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
    """Images of any source, embedded with the settings of the index.

    Raises:
        SourceError: A source can't be opened.
    """

    def __init__(self, sources: Sequence[str], embedder: QueryEmbedder, dim: int) -> None:
        self._names = tuple(sources)
        self._source = open_source(sources, labels="none")
        self._embedder = embedder
        self._dim = dim

    def batches(self) -> Iterator[QueryBatch]:
        """The images that can be embedded; the others are failures.

        Raises:
            SourceError: There isn't one image.
        """
        found = 0
        for part in self._embedder.embed(self._source.scan()):
            found += part.counts.embedded + part.counts.failed
            if part.rows is None:
                yield _empty_batch(self._dim, part.failures)
                continue
            ids = tuple(name.decode("utf-8", "surrogateescape") for name in part.rows.ids)
            hashes = part.rows.images["content_hash"]
            yield QueryBatch(ids, part.rows.embeddings, hashes, part.failures)
        if not found:
            raise SourceError(f"{', '.join(self._names)}: no image found")


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


def kind_of_query(spec: str) -> str:
    """Returns ``id`` for ``id:…``, ``store`` for a store, ``image`` for anything else."""
    if spec.startswith(_ID):
        return "id"
    return "store" if is_store(spec) else "image"


def open_queries(
    specs: Sequence[str | os.PathLike[str]],
    index: QueryTarget,
    embedder: QueryEmbedder,
    metadata: StoreMetadata | None,
) -> list[Queries]:
    """Opens queries by their names, in order.

    Args:
        specs: ``id:ID``, stores, and whatever ``open_source`` takes.
        index: The index.
        embedder: For images.
        metadata: The index's stores, for ids.

    Raises:
        SourceError: A source can't be opened.
        StoreError: A store can't be read, or a query is an id and there is no store.
        IndexMismatchError: A store was embedded with other settings than the index.
        ValueError: Nothing was given.
    """
    names = [os.fsdecode(spec) for spec in specs]
    if not names:
        raise ValueError("nothing to search with: give an image, a folder, a store or id:ID")
    opened: list[Queries] = []
    try:
        for kind, group in groupby(names, kind_of_query):
            some = list(group)
            if kind == "image":
                opened.append(ImageQueries(some, embedder, index.meta.feature_dim))
            elif kind == "store":
                opened += (StoreQueries(name, index) for name in some)
            else:
                opened.append(_id_queries(some, index, metadata))
    except BaseException:
        for queries in opened:
            queries.close()
        raise
    return opened


def _id_queries(
    names: Sequence[str], index: QueryTarget, metadata: StoreMetadata | None
) -> IdQueries:
    if metadata is None:
        raise StoreError(
            f"{index.path}: {names[0]} needs the store that the index was built of: stores=FILE"
        )
    return IdQueries([name.removeprefix(_ID) for name in names], metadata, index.meta.feature_dim)
