"""Classes of the images of a store, from the classifier that is stored with the embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.records import Head

__all__ = ["ClassifiedBatch", "classify"]

_BATCH_ROWS = 4096  # 16 MiB of float32 logits of 1000 classes


@dataclass(frozen=True, slots=True)
class ClassifiedBatch:
    """The likeliest classes of some rows of a store, best first.

    Attributes:
        start: Row number of the first row.
        ids: n ids.
        class_names: n tuples of k names.
        classes: ``(n, k)`` int64 class numbers, rows of the head's weight.
        probabilities: ``(n, k)`` float32, softmax over all classes.
    """

    start: int
    ids: tuple[str, ...]
    class_names: tuple[tuple[str, ...], ...]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def classify(store: str | os.PathLike[str], k: int = 5) -> Iterator[ClassifiedBatch]:
    """Classifies the images of a store without their pixels.

    Args:
        store: A store file or folder, with a head.
        k: How many classes to give for each image; no more than the head has.

    Returns:
        All rows in order, batch by batch, computed as they are asked for.

    Raises:
        StoreError: The store has no head, or one that doesn't apply to its rows.
        ValueError: ``k < 1``.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    opened = EmbeddingStore.open(store)
    try:
        head = _usable_head(opened)
    except BaseException:
        opened.close()
        raise
    return _batches(opened, head, min(k, len(head.class_names)))


def _usable_head(store: EmbeddingStore) -> Head:
    if not store.meta.head_applies:
        raise StoreError(
            f"{store.path}: its rows aren't what the classifier takes (normalised, or not "
            "average-pooled, or of a backbone without one); extract again with the defaults"
        )
    head = store.head
    if head is None:
        raise StoreError(f"{store.path}: holds no classifier")
    return head


def _batches(store: EmbeddingStore, head: Head, k: int) -> Iterator[ClassifiedBatch]:
    with store:
        for batch in store.iter_batches(_BATCH_ROWS):
            classes, probabilities = _top_classes(batch.embeddings, head, k)
            names = tuple(tuple(head.class_names[c] for c in row) for row in classes.tolist())
            yield ClassifiedBatch(batch.start, batch.ids, names, classes, probabilities)


def _top_classes(
    embeddings: NDArray[np.floating], head: Head, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``(n, k)`` class numbers and probabilities, best first; equal ones in the head's order."""
    logits = embeddings.astype(np.float32) @ head.weight.T + head.bias
    logits -= logits.max(axis=1, keepdims=True)  # so that no exponential overflows
    classes = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    return classes, np.take_along_axis(shares, classes, axis=1)
