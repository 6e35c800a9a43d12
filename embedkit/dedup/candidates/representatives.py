"""A store as input of a search, its equal rows grouped so that only one of each is compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.dedup.candidates.hamming_join import is_informative
from embedkit.dedup.unit_rows import UnitRows
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = [
    "DedupInput",
    "Representatives",
    "as_keys",
    "digest_rows",
    "equal_keys",
    "expand_to_members",
]

_MOST_OF_A_HASH = 32


@dataclass(frozen=True)
class Representatives:
    """Groups of equal rows, each compared through its first row.

    Attributes:
        representative: ``(N,)`` the first row that each row equals; itself where there is none
            before it.
        rows: ``(n,)`` the rows that are compared, ascending.
        copies: ``(P, 2)`` pairs of a compared row and a row that equals it.
    """

    representative: NDArray[np.int64]
    rows: NDArray[np.int64]
    copies: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        keys: NDArray[Any],
        rows: NDArray[np.int64],
        before: NDArray[np.int64] | None = None,
        *,
        most: int = 1,
    ) -> Self:
        """Groups rows by equal keys.

        Args:
            keys: ``(N,)`` a key for each row of the store.
            rows: ``(m,)`` the rows whose keys are compared, ascending.
            before: ``(N,)`` representatives that were found by other keys, of which ``rows`` are
                some.
            most: Groups of up to so many rows are compared row by row, without a representative.
        """
        copies, kept = equal_keys(keys[rows], rows)
        if most > 1:
            _, place, sizes = np.unique(copies[:, 0], return_inverse=True, return_counts=True)
            small = sizes[place.reshape(-1)] < most
            kept = np.union1d(kept, copies[small, 1])
            copies = copies[~small]
        first = np.arange(len(keys))
        first[copies[:, 1]] = copies[:, 0]
        return cls(first if before is None else first[before], kept, copies)


class DedupInput:
    """One store of a search, with its hashes and equal rows, which are computed on first use.

    Attributes:
        store: The store, open.
        rows: All of its rows, of unit length.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store
        self.rows = UnitRows(store.embeddings)

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def contents(self) -> NDArray[np.void]:
        """``(N,)`` content hashes, one sortable value each."""
        return as_keys(self.store.images("content_hash"))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """``(N,)`` perceptual hashes."""
        return self.store.images("phash").astype(np.uint64)

    @cached_property
    def shapes(self) -> NDArray[np.float32]:
        """``(N,)`` width by height of the images."""
        width, height = (self.store.images(side).clip(1) for side in ("width", "height"))
        return np.asarray(width / height, np.float32)

    @cached_property
    def exact_content(self) -> Representatives:
        """Rows grouped by equal content hash."""
        return Representatives.of(self.contents, np.arange(len(self)))

    @cached_property
    def equal_embedding(self) -> Representatives:
        """Representatives of ``exact_content`` grouped by equal embedding, zero vectors left out.

        Raises:
            StoreError: An embedding isn't finite.
        """
        digests, nonzero = digest_rows(self.store)
        rows = self.exact_content.rows
        return Representatives.of(digests, rows[nonzero[rows]], self.exact_content.representative)

    @cached_property
    def distinct(self) -> UnitRows:
        """The rows that are compared by their embeddings."""
        return UnitRows(self.store.embeddings, self.equal_embedding.rows)

    @cached_property
    def equal_hash(self) -> Representatives:
        """Representatives of ``exact_content`` grouped by equal informative perceptual hash.

        Images of one hash may still differ, so only groups above 32 rows get a representative.
        """
        rows = self.exact_content.rows
        informative = rows[is_informative(self.hashes[rows])]
        return Representatives.of(
            self.hashes, informative, self.exact_content.representative, most=_MOST_OF_A_HASH
        )


def expand_to_members(
    pairs: NDArray[np.int64], left: Representatives, right: Representatives
) -> NDArray[np.int64]:
    """Expands pairs of representatives between two stores so that every member is in a pair.

    A pair whose first row represents n rows and whose second represents m becomes n + m - 1 pairs:
    each member of the one side with the representative of the other.

    Args:
        pairs: ``(P, 2)`` of compared rows.
        left: Of the first store.
        right: Of the second store.

    Returns:
        ``(Q, 2)`` rows, sorted, each pair once.
    """
    place, first = _members(pairs[:, 0], left.representative)
    other_place, second = _members(pairs[:, 1], right.representative)
    expanded = [
        np.stack([first, pairs[place, 1]], axis=1),
        np.stack([pairs[other_place, 0], second], axis=1),
    ]
    return np.unique(np.concatenate(expanded), axis=0)


def _members(
    rows: NDArray[np.int64], representative: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that each of ``rows`` represents: its place in ``rows``, and the member."""
    order = np.argsort(representative, kind="stable")
    begin, end = (np.searchsorted(representative[order], rows, at) for at in ("left", "right"))
    count = end - begin
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(rows)), count), order[np.repeat(begin, count) + step]


def equal_keys(
    keys: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs rows of equal keys with the first of them, so that n equal rows are n - 1 pairs.

    Args:
        keys: ``(n,)`` of any dtype that sorts, a key for each of ``rows``.
        rows: ``(n,)`` row numbers, ascending.

    Returns:
        ``(P, 2)`` pairs (first row, copy), and ``(m,)`` the rows with the copies left out.
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    representative = rows[first[inverse.reshape(-1)]]
    copies = representative != rows
    return np.stack([representative[copies], rows[copies]], axis=1), rows[~copies]


def digest_rows(store: EmbeddingStore) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """A 128-bit hash of each embedding, and which embeddings aren't zero, ``(N,)`` both.

    Raises:
        StoreError: An embedding isn't finite.
    """
    digests, nonzero = np.empty((len(store), 16), np.uint8), np.empty(len(store), bool)
    for batch in store.iter_batches():
        refuse_not_finite(batch.embeddings, batch.ids, store.path)
        where = slice(batch.start, batch.start + len(batch.ids))
        hashed = b"".join(map(_digest, batch.embeddings))
        digests[where] = np.frombuffer(hashed, np.uint8).reshape(-1, 16)
        nonzero[where] = batch.embeddings.any(axis=1)
    return as_keys(digests), nonzero


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """``(n, bytes)`` to ``(n,)``, each row one value that sorts."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").reshape(-1)


def _digest(row: NDArray[np.floating]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()
