"""Reads the lists that benchmarks publish: the classes of a subset, and ReaL's labels."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.classification.class_names import ClassWords
from embedkit.errors import SourceError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.types import Head

__all__ = ["read_class_subset", "read_real_labels", "real_classes"]

_IMAGENET_CLASSES = 1000
_VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


def read_class_subset(path: str | os.PathLike[str], head: Head) -> NDArray[np.int64]:
    """The numbers of the classes in a text file, ascending, ``(c,)``.

    Args:
        path: One class per line: identifier, name or number, or an identifier and more after a
            blank.
        head: The classifier.

    Raises:
        SourceError: The file can't be read, or a line isn't one class of the classifier.
    """
    words = ClassWords(head)
    numbers: set[int] = set()
    ids = {name: frozenset({number}) for number, name in enumerate(head.class_ids)}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        found = words.find(line) or ids.get(line.split()[0], frozenset())
        if len(found) != 1:
            why = "several classes" if found else "no class"
            raise SourceError(
                f"{path}: line {number}, {line.strip()!r}, is {why} of the store's classifier; "
                "write one identifier (n01443537), name or number per line"
            )
        numbers |= found
    if not numbers:
        raise SourceError(f"{path}: holds no class")
    return np.array(sorted(numbers), np.int64)


def read_real_labels(path: str | os.PathLike[str], head: Head) -> list[list[int]]:
    """The classes of each image of ImageNet's validation set, as ReaL publishes them.

    Args:
        path: A JSON list of lists of class numbers, one per image in the order of their names.
        head: The classifier: the 1000 classes of ImageNet-1k in their usual order.

    Raises:
        SourceError: The file can't be read, or holds something else; or the classifier has other
            classes.
    """
    ids = head.class_ids
    if len(head.class_names) != _IMAGENET_CLASSES or list(ids) != sorted(ids):
        raise SourceError(
            f"{path}: its numbers are those of ImageNet's 1000 classes, but the store's classifier "
            f"has {len(head.class_names):,} classes, or in another order"
        )
    try:
        lists = json.loads(_read(path))
    except (ValueError, RecursionError) as exc:
        raise SourceError(f"{path}: isn't JSON: {exc}") from exc
    valid = range(_IMAGENET_CLASSES)
    if not isinstance(lists, list) or not all(
        isinstance(one, list) and all(type(n) is int and n in valid for n in one) for one in lists
    ):
        raise SourceError(
            f"{path}: isn't a JSON list of lists of class numbers from 0 to 999, as ReaL's "
            "real.json is"
        )
    return lists


def real_classes(ids: Iterable[str], lists: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """ReaL's classes of some images by their file names; none for any other image."""
    found: list[Sequence[int]] = []
    for name in ids:
        match = _VALIDATION_IMAGE.match(posixpath.basename(name.replace("#", "/")))
        place = int(match[1]) - 1 if match else -1
        found.append(sorted({*lists[place]}) if 0 <= place < len(lists) else ())
    return found


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or " ".join(str(exc).split())
        raise SourceError(f"{path}: can't be read: {reason}") from exc
