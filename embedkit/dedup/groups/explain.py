"""Why two images count as copies: the pair between them, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.groups.grouping import distinct_images, nodes_of
from embedkit.dedup.pairs import SAME_SCENE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.pairs import Pairs

__all__ = ["OTHER_SHOT", "Evidence", "describe_pair", "edits_of", "kind_of_pair"]

OTHER_SHOT = "another photograph of the same scene"

_UNKNOWN_HAMMING = 255
_UNSEEN = 0.02  # of a side
_ABSURD = 1e6


class Evidence:
    """Finds the pairs of an image, those of images that equal it included.

    Args:
        pairs: What was found. Images are known by their place in ``nodes_of(pairs)``.

    Attributes:
        alike: ``(M,)`` a number for each image, the same for images of equal bytes or embedding.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.alike = distinct_images(pairs)
        self._scores = pairs.score
        ends = self.alike[nodes_of(pairs)[1]]
        pair = np.flatnonzero(ends[:, 0] != ends[:, 1])
        mine = np.concatenate([ends[pair, 0], ends[pair, 1]])
        order = np.argsort(mine, kind="stable")
        self._other = np.concatenate([ends[pair, 1], ends[pair, 0]])[order]
        self._pair = np.concatenate([pair, pair])[order]
        count = int(self.alike.max(initial=-1)) + 1
        self._starts = np.searchsorted(mine[order], np.arange(count + 1))

    def among(self, image: int, kept: NDArray[np.int64]) -> list[tuple[int, int]]:
        """The copies of ``image`` among those that ``kept`` names, the highest-scoring first.

        Args:
            image: An image.
            kept: By ``alike`` numbers: the image that stands for each, -1 for none.

        Returns:
            Those images, and the pairs that say so; -1 where the two are alike.
        """
        number = int(self.alike[image])
        equal = [(int(kept[number]), -1)] if kept[number] >= 0 else []
        mine = slice(self._starts[number], self._starts[number + 1])
        there = np.flatnonzero(kept[self._other[mine]] >= 0)
        there = there[np.argsort(-self._scores[self._pair[mine][there]], kind="stable")]
        others, pairs = kept[self._other[mine][there]], self._pair[mine][there]
        return equal + list(zip(others.tolist(), pairs.tolist(), strict=True))


def describe_pair(pairs: Pairs, number: int) -> str:
    """Why a pair is one, in words."""
    if pairs.exact[number]:
        return "same bytes"
    parts = [f"cosine {pairs.cosine[number]:.3f}"]
    if pairs.hamming[number] != _UNKNOWN_HAMMING:
        parts.append(f"hash {pairs.hamming[number]} bits apart")
    if pairs.verified[number] == 1:
        words = ", ".join(edits_of(pairs.how[number])) if pairs.how else ""
        parts.append("verified on the pixels" + (f" ({words})" if words else ""))
    elif pairs.verified[number] == SAME_SCENE:
        parts.append(OTHER_SHOT)
    elif pairs.verified[number] == 0:
        parts.append("not confirmed on the pixels")
    return ", ".join(parts)


def kind_of_pair(pairs: Pairs, number: int) -> str:
    """The kind of edit between the two images of a pair, in a word or two."""
    if pairs.exact[number]:
        return "same bytes"
    if pairs.verified[number] == SAME_SCENE:
        return "other photograph"
    if pairs.verified[number] != 1:
        return "not verified"
    words = edits_of(pairs.how[number]) if pairs.how else []
    return words[0].split()[0] if words else "same view"


def edits_of(how: Mapping[str, Any]) -> list[str]:
    """How the one image was made from the other, in words; invisible changes are left out."""
    words = ["mirrored"] if how.get("flip") is True else []
    crop, angle, scale = (_numbers(how.get(key)) for key in ("crop", "rotation", "scale"))
    if len(crop) == 4:
        across, down = crop[2] - crop[0], crop[3] - crop[1]
        if min(across, down) < 1 - _UNSEEN:
            words.append(f"cropped to {across:.0%} x {down:.0%}")
    if len(angle) == 1 and abs(angle[0]) >= 1:
        words.append(f"turned by {angle[0]:.0f} degrees")
    if len(scale) == 1 and abs(scale[0] - 1) > _UNSEEN:
        words.append(f"scaled to {scale[0]:.0%}")
    return words


def _numbers(value: object) -> list[float]:
    """A number or several, of a table that may have been written by others; else nothing."""
    every = value if isinstance(value, list) else [value]
    found = [float(one) for one in every if isinstance(one, int | float) and abs(one) < _ABSURD]
    return found if len(found) == len(every) else []
