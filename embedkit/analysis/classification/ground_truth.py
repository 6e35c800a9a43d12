"""The true class of an image, from its label, its folder or its name."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.classification.class_names import ClassWords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.types import Head

__all__ = ["Truth"]

_SYNSET = re.compile(r"(n\d{8})(?!\d)")


class Truth:
    """Finds the class that an image is said to be of.

    A label counts as ``ClassWords`` has it; without one that means a single class the image's
    folder counts, then the beginning of its file's name, as identifiers only.

    Args:
        head: The classifier.
    """

    def __init__(self, head: Head) -> None:
        self._words = ClassWords(head)
        self._of_id = {synset: number for number, synset in enumerate(head.class_ids)}

    def numbers(self, ids: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
        """The class numbers of n images, ``(n,)``; -1 where nothing says it.

        Args:
            ids: n ids.
            labels: n labels, empty where there is none.
        """
        pairs = zip(ids, labels, strict=True)
        return np.array([self._number(name, label) for name, label in pairs], np.int64)

    def _number(self, image_id: str, label: str) -> int:
        meant = self._words.find(label)
        if len(meant) == 1:
            return next(iter(meant))
        folder, name = posixpath.split(image_id.replace("#", "/"))
        parent = posixpath.basename(folder)
        if parent in self._of_id:
            return self._of_id[parent]
        found = _SYNSET.match(name)
        return self._of_id.get(found[1], -1) if found else -1
