"""Rows that are equal to the bit, joined to the first of them before anything is compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.vectors import refuse_not_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["as_keys", "digest_rows", "equal_keys"]


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
