"""Measures the accuracy of the stored classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.classification.ground_truth import Truth
from embedkit.analysis.classification.head import likeliest, usable_head
from embedkit.analysis.classification.published_lists import (
    read_class_subset,
    read_real_labels,
    real_classes,
)
from embedkit.errors import StoreError
from embedkit.metrics import wilson_interval
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.types import Head
from embedkit.utils.progress import reporting, track
from embedkit.utils.vectors import refuse_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.store import StoreMeta
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Accuracy", "ClassAccuracy", "Evaluation", "evaluate"]

_BATCH_ROWS, _TOP = 4096, 5


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
        top1: Share of images of the class that are right.
    """

    class_id: str
    class_name: str
    top1: Accuracy


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Tabular):
    """The accuracy of a store's classifier on the store's images.

    Attributes:
        meta: Metadata of the store.
        top1: Share of images whose class, or one of whose classes, is the most probable.
        top5: Share of images whose class, or one of whose classes, is among the five most probable.
        unlabelled: Images whose class is unknown or not of the subset; they don't count.
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
    store: str | os.PathLike[str],
    *,
    class_subset: str | os.PathLike[str] | None = None,
    real: str | os.PathLike[str] | None = None,
    progress: bool | ProgressCallback = False,
) -> Evaluation:
    """Compares the classes that the stored head gives with those that the images are of.

    What an image is of, its label says: the class's identifier (for ImageNet the synset,
    ``n01443537``), its name, or its number. Without such a label its folder says it, or the
    beginning of its file's name, if that is an identifier.

    Args:
        store: A store file or folder, with a head.
        class_subset: A text file with one class per line (identifier, name or number), such as the
            200 synsets of ImageNet-A or ImageNet-R: only these classes are predicted, and images
            of other classes don't count.
        real: ReaL's ``real.json``: the classes of each image of ImageNet's validation set, in
            place of labels and folders. A prediction of any of them is right. Images are found by
            file name (``ILSVRC2012_val_00000001.JPEG``); those without a class don't count.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: The store has no head that applies to its rows, or no image of a known class; or
            an embedding isn't finite.
        SourceError: ``class_subset`` or ``real`` can't be read, or doesn't fit the head.
    """
    with reporting(progress), EmbeddingStore.open(store) as opened:
        head = usable_head(opened)
        if real is None:
            rows, classes = _labeled_pairs(opened, Truth(head))
        else:
            rows, classes = _real_pairs(opened, read_real_labels(real, head))
        if class_subset is not None:
            subset = read_class_subset(class_subset, head)
            inside = np.isin(classes, subset)
            rows, classes = rows[inside], np.searchsorted(subset, classes[inside])
            head = _only(head, subset)
        if not len(rows):
            raise StoreError(_no_class(opened, class_subset, real))
        places = _places(opened, head, rows, classes)
        known = np.unique(rows)
        counts = np.bincount(classes, minlength=len(head.class_names)).tolist()
        right = np.bincount(classes[places[rows] == 0], minlength=len(counts)).tolist()
        synsets = head.class_ids or ("",) * len(head.class_names)
        named = zip(synsets, head.class_names, right, counts, strict=True)
        return Evaluation(
            opened.meta,
            Accuracy(int((places[known] == 0).sum()), len(known)),
            Accuracy(int((places[known] < _TOP).sum()), len(known)),
            len(opened) - len(known),
            opened.counts.failed,
            tuple(ClassAccuracy(i, name, Accuracy(r, of)) for i, name, r, of in named if of),
        )


_Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Rows, ascending, and for each a class that the image is of; ``(n,)`` each."""


def _labeled_pairs(store: EmbeddingStore, truth: Truth) -> _Pairs:
    labels = store.labels or [""] * len(store)
    parts = [np.empty(0, np.int64)]
    for start in range(0, len(store), 65536):
        stop = min(start + 65536, len(store))
        parts.append(truth.numbers(store.ids[start:stop], labels[start:stop]))
    numbers = np.concatenate(parts)
    rows = np.flatnonzero(numbers >= 0)
    return rows, numbers[rows]


def _real_pairs(store: EmbeddingStore, lists: Sequence[Sequence[int]]) -> _Pairs:
    found = real_classes(store.ids, lists)
    rows = np.repeat(np.arange(len(found)), [len(one) for one in found])
    return rows, np.array([number for one in found for number in one], np.int64)


def _only(head: Head, classes: NDArray[np.int64]) -> Head:
    """The classifier with some of its classes."""
    numbers = classes.tolist()
    return Head(
        head.weight[classes],
        head.bias[classes],
        tuple(head.class_names[number] for number in numbers),
        tuple(head.class_ids[number] for number in numbers) if head.class_ids else (),
    )


def _no_class(store: EmbeddingStore, class_subset: object, real: object) -> str:
    none = f"{store.path}: none of its {len(store):,} images"
    if real is not None:
        return (
            f"{none} has a class in {real}: their files must be named as ImageNet's validation "
            "images are (ILSVRC2012_val_00000001.JPEG)"
        )
    known = "a known class" if class_subset is None else f"a class of {class_subset}"
    return (
        f"{none} is of {known}: label them by folders or file names that are the classes' "
        "identifiers (n01443537), or extract with labels=FILE"
    )


def _places(
    store: EmbeddingStore, head: Head, rows: NDArray[np.int64], classes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """``(N,)`` rank of the first right class among the top five, from 0; 5 if none is right."""
    pairs, width = rows * len(head.class_names) + classes, len(head.class_names)
    found = [np.empty(0, np.int64)]
    batches = store.iter_batches(_BATCH_ROWS)
    for batch in track(
        batches, "classifying", len(store), unit="images", size=lambda batch: len(batch.ids)
    ):
        refuse_not_finite(batch.embeddings, batch.ids, store.path)
        predicted, _ = likeliest(batch.embeddings, head, _TOP)
        numbers = np.arange(batch.start, batch.start + len(predicted))
        right = np.isin(numbers[:, None] * width + predicted, pairs[_span(rows, numbers)])
        found.append(np.where(right.any(axis=1), right.argmax(axis=1), _TOP))
    return np.concatenate(found)


def _span(rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> slice:
    return slice(*np.searchsorted(rows, (numbers[0], numbers[-1] + 1)).tolist())
