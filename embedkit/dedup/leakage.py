"""Leaks: images of one store that are also in another one, such as test images in training data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ClassLeaks", "Leaks", "StoreLeaks", "count_leaks"]


@dataclass(frozen=True, slots=True)
class ClassLeaks:
    """How many images of a class are in the other store too.

    Attributes:
        label: The class.
        leaking: Images with a copy in the other store.
        images: All images of the class in this store.
    """

    label: str
    leaking: int
    images: int


@dataclass(frozen=True, slots=True)
class StoreLeaks:
    """How many images of a store are in the other one too.

    Attributes:
        leaking: Images with a copy in the other store.
        images: All images of this store.
        classes: The classes with leaks, most leaks first; nothing where there are no labels.
    """

    leaking: int
    images: int
    classes: tuple[ClassLeaks, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaks:
    """The images that two stores have in common.

    Attributes:
        store: Seen from the store.
        against: Seen from the one that it was compared with.
        other_label: Pairs whose two images have different labels.
    """

    store: StoreLeaks
    against: StoreLeaks
    other_label: int


def count_leaks(labels: Sequence[str], images: int, totals: Mapping[str, int]) -> StoreLeaks:
    """Counts the leaks of one store.

    Args:
        labels: The labels of the images that leak, empty where an image has none.
        images: All images of the store.
        totals: Label to all images of that label, for those at least that leak.
    """
    counted = Counter(label for label in labels if label)
    classes = [ClassLeaks(label, number, totals[label]) for label, number in counted.items()]
    return StoreLeaks(
        len(labels), images, tuple(sorted(classes, key=lambda c: (-c.leaking, c.label)))
    )
