"""Things that two images that lie over each other don't both show.

A copy is made from its original by laying text and shapes over it: each spot that differs is thin
or even, and all are in one of the two images. Of two frames of a scene that moves, each shows some
of what the other one hides, and a shape that moves has one level at two places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from embedkit.dedup.verification.windows import WINDOW, box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.verification.laying import Laid

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["foreign_things"]

_FEWEST = 0.002  # of the frame in which windows differ: fewer show no thing
_FAR_OFF = 20.0  # levels
_THICK = 7  # pixels: text is thinner than a thing
_MUCH_LEFT, _FEW_OFF = 0.1, 0.003  # of what is off; of the frame, added so that few don't decide
_EACH_HAS = 0.002  # of the frame
_MUCH, _FEW_LEVELS, _NEAR, _EVEN = 0.08, 6, 3, 10.0  # share of what is off; how many; levels
_WITHIN = 0.6  # of an even spot, near what differs
_ALIKE, _AS_LARGE = 8, 2.0  # levels, and ratio of sizes: of a shape at two places


def foreign_things(laid: Laid, expected: Values, differ: Mask, agree: Mask) -> float:
    """How clearly each image shows a thing that the other one doesn't have.

    A spot counts whose levels are far from those expected. It is explained by a veil, under which
    windows agree, and where one of the images is drawn: even, of a few levels. That must be the
    same image everywhere, as only one was made from the other.

    Args:
        laid: The two images.
        expected: ``(h, w)`` levels of the second image that follow from the first one.
        differ: ``(h, w)`` where windows differ.
        agree: ``(h, w)`` where windows agree.

    Returns:
        0 if nothing is left to explain, from 1 on clearly: thick spots that are drawn in neither
        image alone are much of what is off, each image has a drawn thing that the other lacks, or
        the same one at another place.
    """
    if np.count_nonzero(differ) < _FEWEST * differ.size:
        return 0.0
    near = laid.inside & _around(differ)
    far_off = np.abs(laid.second - expected) > _FAR_OFF
    off = near & far_off & ~_around(agree & far_off)
    even = _even(laid.first), _even(laid.second)
    drawn = [
        even[one] & _of_few_levels(levels, off) & laid.inside
        for one, levels in enumerate((laid.first, laid.second))
    ]
    left = min(_share_of_thick(off & ~one) for one in drawn) / (float(off.mean()) + _FEW_OFF)
    if left >= _MUCH_LEFT:
        return left / _MUCH_LEFT
    filled = near & (box(off.astype(np.float32), 3) > 0.5)  # levels may be like by chance
    things = [filled & _within(one, near) for one in drawn]
    own = min(_share_of_thick(things[one] & ~drawn[1 - one]) for one in (0, 1))
    moved = _moved_shape((expected, laid.second), even, near, off)
    return max(left / _MUCH_LEFT, own / _EACH_HAS, moved / _EACH_HAS)


def _around(windows: Mask) -> Mask:
    """What windows show, given where their centres are."""
    return np.asarray(cv2.dilate(windows.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0)


def _share_of_thick(spots: Mask) -> float:
    """The share of the frame in thick spots."""
    square = np.ones((_THICK, _THICK), np.uint8)
    return float(cv2.morphologyEx(spots.astype(np.uint8), cv2.MORPH_OPEN, square).mean())


def _of_few_levels(levels: Values, off: Mask) -> Mask:
    """Where an image is of one of the few levels that much of what is off has."""
    places = levels.clip(0, 255).astype(np.intp)
    counts = np.bincount(places[off], minlength=256).astype(np.float64)
    least, few = _MUCH * counts.sum(), np.zeros(256, bool)
    for _ in range(_FEW_LEVELS):
        most = int(np.convolve(counts, np.ones(2 * _NEAR + 1), "same").argmax())
        around = slice(max(most - _NEAR, 0), most + _NEAR + 1)
        if counts[around].sum() < least:
            break
        few[around], counts[around] = True, 0
    return few[places]


def _even(levels: Values) -> Mask:
    square = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(levels, square) - cv2.erode(levels, square) <= _EVEN)


def _moved_shape(
    levels: tuple[Values, Values], even: tuple[Mask, Mask], near: Mask, off: Mask
) -> float:
    """The share of the frame in an even shape of one level, at another place in each image."""
    spots = [near & even[one] & (off | ~even[1 - one]) for one in (0, 1)]
    places = [levels[one][spots[one]].clip(0, 255).astype(np.intp) for one in (0, 1)]
    around = np.ones(2 * _NEAR + 1)
    sizes = [np.convolve(np.bincount(some, minlength=256), around, "same") for some in places]
    level = int(np.minimum(*sizes).argmax())
    of_level = [even[one] & (np.abs(levels[one] - level) <= _ALIKE) for one in (0, 1)]
    small, large = sorted(
        _share_of_thick(spots[one] & _within(of_level[one], near)) for one in (0, 1)
    )
    return small if large <= _AS_LARGE * small else 0.0


def _within(drawn: Mask, near: Mask) -> Mask:
    """The even spots that end where the difference does: a sky doesn't."""
    count, spots = cv2.connectedComponents(drawn.astype(np.uint8))
    sizes = np.bincount(spots.ravel(), minlength=count)
    within = np.bincount(spots.ravel(), near.ravel(), count)
    return np.asarray(drawn & (within >= _WITHIN * sizes)[spots])
