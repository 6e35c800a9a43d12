"""The rows of a store that are worth comparing: the first of each that are equal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.dedup.candidates.hamming_join import is_telling
from embedkit.dedup.unit_rows import UnitRows
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["Origins", "Side", "as_keys", "digest_rows", "equal_keys", "spread"]

_MOST_OF_A_HASH = 32


@dataclass(frozen=True)
class Origins:
    """Which rows stand for which others.

    Attributes:
        origin: ``(N,)`` the first row that each row equals; itself, if there is none before it.
        rows: ``(n,)`` the rows that are compared, ascending.
        copies: ``(P, 2)`` pairs of a row that is compared and one that equals it.
    """

    origin: NDArray[np.int64]
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
        """From the rows' keys.

        Args:
            keys: ``(N,)``, of all rows.
            rows: ``(m,)`` the rows that have a key worth comparing, ascending.
            before: ``(N,)`` origins that were found by other keys, of which ``rows`` are some.
            most: The most rows of one key that are all compared, none standing for another.
        """
        copies, kept = equal_keys(keys[rows], rows)
        if most > 1:
            _, place, many = np.unique(copies[:, 0], return_inverse=True, return_counts=True)
            few = many[place.reshape(-1)] < most
            kept = np.union1d(kept, copies[few, 1])
            copies = copies[~few]
        origin = np.arange(len(keys))
        origin[copies[:, 1]] = copies[:, 0]
        return cls(origin if before is None else origin[before], kept, copies)


class Side:
    """One store of a search; what takes a look at every row is found out when it is asked for.

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
        """``(N,)`` content hashes, one value each, that sorts."""
        return as_keys(self.store.images("content_hash"))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """``(N,)`` perceptual hashes."""
        return self.store.images("phash").astype(np.uint64)

    @cached_property
    def by_bytes(self) -> Origins:
        """Rows of equal bytes."""
        return Origins.of(self.contents, np.arange(len(self)))

    @cached_property
    def by_embedding(self) -> Origins:
        """Of what bytes leave, rows of equal embedding; zero ones aren't compared.

        Raises:
            StoreError: An embedding isn't finite.
        """
        digests, nonzero = digest_rows(self.store)
        rows = self.by_bytes.rows
        return Origins.of(digests, rows[nonzero[rows]], self.by_bytes.origin)

    @cached_property
    def distinct(self) -> UnitRows:
        """The rows that are compared by their embeddings."""
        return UnitRows(self.store.embeddings, self.by_embedding.rows)

    @cached_property
    def by_hash(self) -> Origins:
        """Of what bytes leave, rows of equal perceptual hash, where it says something.

        They may be unlike otherwise, so only where they are many one stands for the others.
        """
        rows = self.by_bytes.rows
        telling = rows[is_telling(self.hashes[rows])]
        return Origins.of(self.hashes, telling, self.by_bytes.origin, most=_MOST_OF_A_HASH)


def spread(pairs: NDArray[np.int64], left: Origins, right: Origins) -> NDArray[np.int64]:
    """Pairs of rows that stand for others, between two stores, to pairs that name all of them.

    n rows that equal the first of a pair and m that equal the second are n + m - 1 pairs: each
    with the row that stands for those of the other store.

    Args:
        pairs: ``(P, 2)`` of compared rows.
        left: Of the first store.
        right: Of the second store.
    """
    firsts = _members(pairs[:, 0], left.origin)
    seconds = _members(pairs[:, 1], right.origin)
    out = [
        np.stack([firsts[1], pairs[firsts[0], 1]], axis=1),
        np.stack([pairs[seconds[0], 0], seconds[1]], axis=1),
    ]
    return np.unique(np.concatenate(out), axis=0)


def _members(
    rows: NDArray[np.int64], origin: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that each of ``rows`` stands for: its place in ``rows``, and the member."""
    order = np.argsort(origin, kind="stable")
    begin, end = (np.searchsorted(origin[order], rows, side) for side in ("left", "right"))
    many = end - begin
    step = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return np.repeat(np.arange(len(rows)), many), order[np.repeat(begin, many) + step]


def equal_keys(
    keys: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Joins rows of equal keys to the first one of them, so that n copies are n - 1 pairs.

    Args:
        keys: ``(n,)`` of any dtype that sorts, a key for each of ``rows``.
        rows: ``(n,)`` row numbers, ascending.

    Returns:
        ``(P, 2)`` pairs (first row, copy), and ``(m,)`` the rows with the copies left out.
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    origin = rows[first[inverse.reshape(-1)]]
    copies = origin != rows
    return np.stack([origin[copies], rows[copies]], axis=1), rows[~copies]


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
