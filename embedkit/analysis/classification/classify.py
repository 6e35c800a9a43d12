"""Predicts the top classes of stored images with the stored classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedkit.analysis.classification.head import likeliest, usable_head
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import track
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.types import Head

__all__ = ["ClassifiedBatch", "classify"]

_BATCH_ROWS = 4096  # 16 MiB of float32 logits of 1000 classes


@dataclass(frozen=True, slots=True, repr=False)
class ClassifiedBatch(Tabular):
    """The most probable classes of some rows of a store, best first.

    Attributes:
        start: Row number of the first row.
        ids: n ids.
        class_names: n tuples of k names.
        class_ids: n tuples of k identifiers (ImageNet synsets), empty where the head has none.
        classes: ``(n, k)`` int64 class numbers, rows of the head's weight.
        probabilities: ``(n, k)`` float32, softmax over all classes.
    """

    start: int
    ids: tuple[str, ...]
    class_names: tuple[tuple[str, ...], ...]
    class_ids: tuple[tuple[str, ...], ...]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def _summary(self) -> str:
        return f"the most probable classes of {len(self.ids):,} images"

    def _columns(self) -> dict[str, Any]:
        count, k = self.classes.shape
        return {
            "id": [name for name in self.ids for _ in range(k)],
            "rank": [*range(1, k + 1)] * count,
            "class_name": [name for names in self.class_names for name in names],
            "class_id": [name for names in self.class_ids for name in names],
            "probability": self.probabilities.reshape(-1),
        }


@plain_numbers
def classify(store: str | os.PathLike[str], k: int = 5) -> Iterator[ClassifiedBatch]:
    """Classifies the images of a store without their pixels.

    Args:
        store: A store file or folder, with a head.
        k: Classes per image, at most those of the head.

    Returns:
        All rows in order, batch by batch, computed lazily.

    Raises:
        StoreError: The store has no head, or one that doesn't apply to its rows; or an
            embedding isn't finite.
        ValueError: ``k < 1``.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    opened = EmbeddingStore.open(store)
    try:
        head = usable_head(opened)
    except BaseException:
        opened.close()
        raise
    return _batches(opened, head, min(k, len(head.class_names)))


def _batches(store: EmbeddingStore, head: Head, k: int) -> Iterator[ClassifiedBatch]:
    synsets = head.class_ids or ("",) * len(head.class_names)
    with store:
        batches = store.iter_batches(_BATCH_ROWS)
        for batch in track(
            batches, "classifying", len(store), unit="images", size=lambda batch: len(batch.ids)
        ):
            refuse_not_finite(batch.embeddings, batch.ids, store.path)
            classes, shares = likeliest(batch.embeddings, head, k)
            names, ids = (
                tuple(tuple(words[number] for number in row) for row in classes.tolist())
                for words in (head.class_names, synsets)
            )
            yield ClassifiedBatch(batch.start, batch.ids, names, ids, classes, shares)
