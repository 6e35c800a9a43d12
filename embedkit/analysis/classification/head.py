"""Applies the stored classifier to stored rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore
    from embedkit.types import Head

__all__ = ["likeliest", "softmax", "usable_head"]

_CHUNK = 128  # rows, whose scores of 1000 classes fit into a core's own cache


def usable_head(store: EmbeddingStore) -> Head:
    """The classifier of a store, if it fits the store's rows.

    Raises:
        StoreError: There is none, or it doesn't fit.
    """
    if not store.meta.head_applies:
        raise StoreError(
            f"{store.path}: the classifier doesn't apply to its rows (normalised, or not "
            "average-pooled, or of a backbone without one); extract again with the defaults"
        )
    head = store.head
    if head is None:
        raise StoreError(f"{store.path}: holds no classifier")
    return head


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turns logits, ``(n, C)``, into probabilities, in place; each row adds up to 1."""
    for start in range(0, len(logits), _CHUNK):
        part = logits[start : start + _CHUNK]
        part -= part.max(axis=1, keepdims=True)  # so that no exponential overflows
        np.exp(part, out=part)
        part /= part.sum(axis=1, keepdims=True)
    return logits


def likeliest(
    rows: NDArray[np.floating], head: Head, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``(n, k)`` class numbers and probabilities, best first; equal ones in the head's order."""
    logits = rows.astype(np.float32) @ head.weight.T + head.bias
    classes = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return classes, np.take_along_axis(softmax(logits), classes, axis=1)
