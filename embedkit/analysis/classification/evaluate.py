"""Measures the accuracy of the stored classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.classification.ground_truth import Truth
from embedkit.analysis.classification.head import likeliest, usable_head
from embedkit.errors import StoreError
from embedkit.metrics import wilson_interval
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.utils.progress import reporting, track
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from embedkit.store import StoreMeta
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Accuracy", "ClassAccuracy", "Evaluation", "evaluate"]

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of images that are right.

    Attributes:
        right: Images.
        of: Images.
    """

    right: int
    of: int

    @property
    def percent(self) -> float:
        """Of 100."""
        return 100 * self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval (Wilson), in percent."""
        low, high = wilson_interval(self.right, self.of)
        return 100 * low, 100 * high


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """The accuracy on the images of one class.

    Attributes:
        class_id: The class's identifier; empty where it has none.
        class_name: Its name.
        top1: Share of images for which it is the most probable class.
    """

    class_id: str
    class_name: str
    top1: Accuracy


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Tabular):
    """The accuracy of a store's classifier on the store's images.

    Attributes:
        meta: Metadata of the store.
        top1: Share of images whose class is the most probable.
        top5: Share of images whose class is among the five most probable.
        unlabelled: Images whose class is unknown; they don't count.
        failed: Images that could not be embedded; they don't count either.
        classes: Results per class that has images, in the head's order.
    """

    meta: StoreMeta
    top1: Accuracy
    top5: Accuracy
    unlabelled: int
    failed: int
    classes: tuple[ClassAccuracy, ...]

    def _summary(self) -> str:
        return (
            f"top-1 {self.top1.percent:.1f}%, top-5 {self.top5.percent:.1f}% of {self.top1.of:,} "
            f"images, {len(self.classes):,} classes"
        )

    def _columns(self) -> dict[str, Any]:
        return {
            "class_id": [one.class_id for one in self.classes],
            "class_name": [one.class_name for one in self.classes],
            "right": [one.top1.right for one in self.classes],
            "images": [one.top1.of for one in self.classes],
            "top1_percent": [one.top1.percent for one in self.classes],
        }

    @property
    def mean_per_class(self) -> float:
        """The mean over the classes of their top-1 accuracy, per cent."""
        return float(np.mean([one.top1.percent for one in self.classes]))


def evaluate(
    store: str | os.PathLike[str], *, progress: bool | ProgressCallback = False
) -> Evaluation:
    """Compares the classes that the stored head gives with those that the images are of.

    What an image is of, its label says: the class's identifier (for ImageNet the synset,
    ``n01443537``), its name, or its number. Without such a label its folder says it, or the
    beginning of its file's name, if that is an identifier.

    Args:
        store: A store file or folder, with a head.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: The store has no head that applies to its rows, or no image of a known class; or
            an embedding isn't finite.
    """
    with reporting(progress), EmbeddingStore.open(store) as opened:
        head = usable_head(opened)
        numbers = _true_classes(opened, Truth(head))
        if not (numbers >= 0).any():
            raise StoreError(
                f"{opened.path}: none of its {len(opened):,} images is of a known class: label "
                "them by folders or file names that are the classes' identifiers (n01443537), or "
                "extract with labels=FILE"
            )
        found = []
        batches = opened.iter_batches(_BATCH_ROWS)
        for batch in track(
            batches, "classifying", len(opened), unit="images", size=lambda batch: len(batch.ids)
        ):
            refuse_not_finite(batch.embeddings, batch.ids, opened.path)
            classes, _ = likeliest(batch.embeddings, head, 5)
            found.append(_places(classes, numbers[batch.start :]))
        places = np.concatenate(found)
        known = numbers >= 0
        counts, right = (
            np.bincount(numbers[rows], minlength=len(head.class_names)).tolist()
            for rows in (known, known & (places == 0))
        )
        synsets = head.class_ids or ("",) * len(head.class_names)
        named = zip(synsets, head.class_names, right, counts, strict=True)
        total = int(known.sum())
        return Evaluation(
            opened.meta,
            Accuracy(int((known & (places == 0)).sum()), total),
            Accuracy(int((known & (places < 5)).sum()), total),
            len(opened) - total,
            opened.counts.failed,
            tuple(ClassAccuracy(i, name, Accuracy(r, of)) for i, name, r, of in named if of),
        )


def _true_classes(store: EmbeddingStore, truth: Truth) -> NDArray[np.int64]:
    labels = store.labels or [""] * len(store)
    parts = [np.empty(0, np.int64)]
    for start in range(0, len(store), 65536):
        stop = min(start + 65536, len(store))
        parts.append(truth.numbers(store.ids[start:stop], labels[start:stop]))
    return np.concatenate(parts)


def _places(classes: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of the true class among the top five, from 0; 5 if it isn't among them."""
    found = classes == numbers[: len(classes), None]
    return np.where(found.any(axis=1), found.argmax(axis=1), 5)
