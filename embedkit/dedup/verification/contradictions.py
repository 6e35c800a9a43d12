"""Where two images that lie over each other show something else: things that moved, and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from embedkit.dedup.verification.equalize import equally_sharp
from embedkit.dedup.verification.image_to_compare import EVEN_OF_GRAPHICS, even_share
from embedkit.dedup.verification.laying import Laid, blurred, lay, scaling, turned
from embedkit.dedup.verification.registration import corners_of, mapped
from embedkit.dedup.verification.windows import (
    AGREES,
    FEWEST_WINDOWS,
    TEXTURE,
    WINDOW,
    Windows,
    largest_spot,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.verification.image_to_compare import ImageToCompare
    from embedkit.dedup.verification.registration import Registration

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["fine_contradictions", "share_moved"]

_QUICK_BLUR = 0.8
_PATCHES, _PATCH, _REACH, _IN_PLACE = 48, 7, 6, 1.5  # how many; pixels: half a side, and how far
_FINE_WORK, _FINER_WORK, _FINE_WINDOW = 512, 768, 9  # pixels
_FINE_TEXTURE, _CONTRADICTS = 60.0, 0.5  # levels squared; correlation
_FINE_AROUND = 25  # pixels
_EVEN_OF_SURE_GRAPHICS = 0.6
_FINE_BLUR, _FINE_DETAIL = 0.6, 100.0  # pixels; levels squared


def share_moved(laid: Laid) -> float:
    """The share of windows that agree a few pixels off, but not in their place, 0 to 1.

    Text and shapes over a copy are nowhere in its original. In another photograph of one scene,
    most of what doesn't agree has only moved.
    """
    first, second = blurred(laid.first, _QUICK_BLUR), blurred(laid.second, _QUICK_BLUR)
    windows = Windows.of(first, second, WINDOW)
    texture = windows.with_texture(TEXTURE) & laid.inside
    differ = texture & (windows.correlation <= AGREES)
    margin = _PATCH + _REACH
    within = np.zeros_like(differ)
    within[margin:-margin, margin:-margin] = True
    places = np.argwhere(differ & within)
    if len(places) <= FEWEST_WINDOWS:
        return 0.0
    drawn = np.random.default_rng(0).choice(len(places), min(_PATCHES, len(places)), replace=False)
    moved = [_has_moved(first, second, *places[number].tolist()) for number in drawn]
    return float(differ.sum() / texture.sum() * np.mean(moved))


def _has_moved(first: Values, second: Values, row: int, column: int) -> bool:
    patch = second[row - _PATCH : row + _PATCH + 1, column - _PATCH : column + _PATCH + 1]
    reach = _PATCH + _REACH
    around = first[row - reach : row + reach + 1, column - reach : column + reach + 1]
    found = cv2.matchTemplate(around, patch, cv2.TM_CCOEFF_NORMED)
    down, across = divmod(int(found.argmax()), found.shape[1])
    distance = np.hypot(down - _REACH, across - _REACH)
    return bool(found[down, across] > AGREES and distance > _IN_PLACE)


def fine_contradictions(
    first: ImageToCompare, second: ImageToCompare, found: Registration
) -> tuple[float, float]:
    """Where two graphics show something else, though they agree in layout: charts, codes, text.

    Noise, blur and overlays take details away or add some; only another content has other details
    in its place. The sharper one is blurred as the other is.

    Returns:
        The share of small windows with details in which both show something else; and the largest
        spot of such windows, as a share of the image. 0 of photographs.
    """
    if not _are_graphics(first.even, second.even):
        return 0.0, 0.0
    fine, other = (image.gray if image.fine is None else image.fine for image in (first, second))
    matrix = scaling(other, second.gray) @ found.matrix @ scaling(first.gray, fine)
    fine = turned(fine, found)
    back = np.asarray(np.linalg.inv(matrix), np.float64)
    if not _are_graphics(_even_under(other, fine, back), _even_under(fine, other, matrix)):
        return 0.0, 0.0  # a photograph in the even frame of a page or of a screen
    share, spot, equally = _contradicting(lay(fine, other, matrix, _FINE_WORK))
    if equally:  # else the one is too blurred to have small letters
        larger = _contradicting(lay(fine, other, matrix, _FINER_WORK))
        spot = max(spot, larger[1])
    return share, spot


def _are_graphics(even: float, other: float) -> bool:
    """Whether two images are graphics, by their shares of even areas."""
    return min(even, other) >= EVEN_OF_GRAPHICS or max(even, other) >= _EVEN_OF_SURE_GRAPHICS


def _even_under(
    above: NDArray[np.uint8], below: NDArray[np.uint8], matrix: NDArray[np.float64]
) -> float:
    """The share of even areas of an image where another one lies that is mapped to it."""
    places = np.nan_to_num(mapped(matrix, corners_of(above.shape)))
    edge = np.array(below.shape[1::-1])
    low, high = (np.clip(one, 0, edge).astype(int) for one in (places.min(0), places.max(0)))
    part = below[low[1] : high[1], low[0] : high[0]]
    return even_share(part) if part.size else 1.0


def _contradicting(laid: Laid | None) -> tuple[float, float, bool]:
    """As `fine_contradictions`, of images that lie; and whether they are equally sharp."""
    if laid is None:
        return 1.0, 1.0, False
    windows, texture = _fine_windows(laid)
    sharp = equally_sharp(Laid(laid.first, laid.second, laid.inside & _around(texture)))
    equally = sharp.first is laid.first and sharp.second is laid.second
    if not equally:
        windows, texture = _fine_windows(Laid(sharp.first, sharp.second, laid.inside))
    both = np.minimum(windows.variance, windows.other_variance) > _FINE_DETAIL
    differ = texture & both & (windows.correlation < _CONTRADICTS)
    return float(differ.sum() / max(int(texture.sum()), 1)), _share_of_spot(differ), equally


def _share_of_spot(mask: Mask) -> float:
    """The largest spot of a mask, as a share of it; lines of one pixel or two are none."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return largest_spot(np.asarray(opened > 0))[0] / mask.size


def _fine_windows(laid: Laid) -> tuple[Windows, Mask]:
    """The small windows, and where they have texture."""
    first, second = blurred(laid.first, _FINE_BLUR), blurred(laid.second, _FINE_BLUR)
    windows = Windows.of(first, second, _FINE_WINDOW)
    return windows, windows.with_texture(_FINE_TEXTURE) & laid.inside


def _around(texture: Mask) -> Mask:
    """Where texture is near: the even areas of graphics say nothing of sharpness."""
    kernel = np.ones((_FINE_AROUND, _FINE_AROUND), np.uint8)
    return np.asarray(cv2.dilate(texture.astype(np.uint8), kernel) > 0)
