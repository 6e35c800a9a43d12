"""Makes two images comparable: equally sharp, and in like colours."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from embedkit.dedup.verification.agreement import share_agreeing
from embedkit.dedup.verification.laying import COARSE, Laid, blurred, laid_by
from embedkit.dedup.verification.windows import FEWEST_WINDOWS, agreeing_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.verification.image_to_compare import ImageToCompare
    from embedkit.dedup.verification.registration import Registration

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Plane = NDArray[np.uint8]

__all__ = ["equally_sharp", "recolored"]

_CELL = 12  # pixels: sharpness is compared cell by cell
_LOST_SHARPNESS = 0.2  # log ratio from which on the sharper image is blurred as the other one
_MATCHING_BLURS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # pixels
_EVERY = 2  # one pixel of so many tells how colours are mixed


def equally_sharp(laid: Laid) -> Laid:
    """The same with the sharper image blurred until it is as blurred, or as free of noise."""
    images = [laid.first, laid.second]
    details = [_details(image) for image in images]
    lost = _sharper(details[0], details[1], laid.inside)
    if abs(lost) < _LOST_SHARPNESS:
        return laid
    sharper = 0 if lost > 0 else 1
    for blur in _MATCHING_BLURS:
        softer = blurred(images[sharper], blur)
        if _sharper(_details(softer), details[1 - sharper], laid.inside) <= 0:
            break
    images[sharper] = softer
    return Laid(images[0], images[1], laid.inside)


def _details(image: Values) -> Values:
    """Of each cell of the image, the contrast of fine details as a share of that of coarse ones."""
    cells = max(round(image.shape[0] / _CELL), 1), max(round(image.shape[1] / _CELL), 1)
    fine, coarse = (_means((image - blurred(image, blur)) ** 2, cells) for blur in (1.0, 4.0))
    return np.asarray(np.sqrt((fine + 1e-3) / (coarse + 1.0)))


def _means(values: Values, cells: tuple[int, int]) -> Values:
    """The mean of each cell of equal size: two small products, faster than shrinking an image."""
    down, across = (_shares(*sides) for sides in zip(values.shape, cells, strict=True))
    return np.asarray(down @ values @ across.T)


@lru_cache(128)
def _shares(pixels: int, cells: int) -> Values:
    """What each of a row of pixels adds to each cell's mean, ``(cells, pixels)``."""
    edges, place = np.linspace(0, pixels, cells + 1)[:, None], np.arange(pixels)
    inside = np.minimum(edges[1:], place + 1) - np.maximum(edges[:-1], place)
    return np.asarray(inside.clip(0) * cells / pixels, np.float32)


def _sharper(details: Values, other: Values, inside: Mask) -> float:
    """How much sharper the one image is in most places, a log ratio: text is in few of them."""
    rows, columns = details.shape
    both = _means(inside.astype(np.float32), (rows, columns))
    ratio = np.log(details / other)[both > 0.9]
    return float(np.median(ratio)) if len(ratio) else 0.0


def recolored(
    first: ImageToCompare,
    second: ImageToCompare,
    found: Registration,
    gray: Laid,
    least: float,
) -> Iterator[tuple[Plane, Plane]]:
    """Planes of both other than gray, for copies whose colours were turned; ``(h, w)`` as gray is.

    The largest of the three colours, which turning hues leaves alone; and the mixture of the first
    image's colours that is nearest to the second image's gray where both agree.

    Args:
        first: The first image.
        second: The second image.
        found: The map.
        gray: How both lie in gray, coarsely.
        least: More windows must agree than in gray by so much, at a first look.
    """
    least += share_agreeing(gray)
    colors = _with_brightest(first), _with_brightest(second)
    laid = laid_by(*colors, found, COARSE)
    if laid is None:
        return
    if share_agreeing(Laid(laid.first[..., 3], laid.second[..., 3], laid.inside)) >= least:
        yield colors[0][..., 3], colors[1][..., 3]
    agree = gray.inside & agreeing_windows(equally_sharp(gray))
    if agree.sum() <= FEWEST_WINDOWS:
        return
    mixed = np.column_stack([laid.first[agree], np.full(agree.sum(), 255)])[::_EVERY]
    weights = np.linalg.lstsq(mixed, gray.second[agree][::_EVERY], rcond=None)[0]
    mixture = _mixture(weights, laid.first)
    if share_agreeing(Laid(mixture, gray.second, gray.inside)) >= least:
        yield _mixture(weights, colors[0]).astype(np.uint8), second.gray


def _with_brightest(image: ImageToCompare) -> Plane:
    """``(h, w, 4)``: red, green, blue, and the largest of them."""
    red, green, blue = cv2.split(image.colors)
    largest = cv2.max(cv2.max(red, green), blue)
    return np.asarray(cv2.merge([red, green, blue, largest]), np.uint8)


def _mixture(weights: NDArray[np.floating], planes: NDArray[Any]) -> Values:
    """``(h, w, n)`` planes mixed, levels; the last of the ``n + 1`` weights is that of white."""
    mixed = planes @ weights[:-1].astype(np.float32) + np.float32(255 * weights[-1])
    return np.asarray(np.clip(mixed, 0, 255), np.float32)
