"""Measures of an image's quality, on pixels that decoding has made anyway.

Luminance and colour are measured on the thumbnail of the whole image (32 x 32 pixels), the rest on
the network's input: its center at a fixed scale. The definitions, exactly:

- luminance: (77 R + 150 G + 29 B) / 256 (Rec. 601), 0 to 255; mean and standard deviation over the
  thumbnail. `luminance_levels` rounds it down to whole levels.
- colorfulness: Hasler and Süsstrunk, "Measuring colourfulness in natural images" (2003), over the
  thumbnail: the deviations of R - G and (R + G) / 2 - B, plus 0.3 times their means, each pair as
  a length. 0 is gray, above 33 moderately colorful.
- gray: the share of the thumbnail's pixels whose channels differ by 3 levels at most.
- clipped_dark, clipped_bright: the shares of pixels of the input whose luminance is below 4, or
  above 251; of every seventh pixel in each direction.
- entropy: of the luminance's 256 levels, over the same pixels; bits, 0 to 8.
- sharpness: the variance of the Laplacian (4 G - the G above, below, left and right; Pech-Pacheco
  et al. 2000), of the green channel, at the pixels of every 16th row. The neighbors are at a
  distance of about 1/256 of the scaled image's shorter side, so that it is about one scale for
  all networks that scale images to 256 pixels or more; others have a coarser one.

All sums are of whole numbers, so that no order of work changes a bit.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measures", "luminance_levels", "measure"]

_RED, _GREEN, _BLUE = 77, 150, 29
_DARK, _BRIGHT = 4, 251
_GRAY = 3
_STEP, _ROWS = 7, 16
_SCALE = 256  # pixels of the shorter side
_LEVELS = 256
_MIDDLE = 128
_WEIGHTS = np.array([(_RED, _GREEN, _BLUE), (1, -1, 0), (1, 1, -2)])


class Measures(NamedTuple):
    """The measures of n images, ``(n,)`` float32 each; see the module."""

    luminance: NDArray[np.float32]
    luminance_std: NDArray[np.float32]
    clipped_dark: NDArray[np.float32]
    clipped_bright: NDArray[np.float32]
    entropy: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    colorfulness: NDArray[np.float32]
    gray: NDArray[np.float32]

    def by_image(self) -> list[dict[str, Any]]:
        """The measures of each image, floats by name."""
        rows = zip(*(one.tolist() for one in self), strict=True)
        return [dict(zip(self._fields, row, strict=True)) for row in rows]


def measure(pixels: NDArray[np.uint8], thumbnails: NDArray[np.uint8], resize: int) -> Measures:
    """Measures some images.

    Args:
        pixels: ``(n, S, S, 3) uint8``, the network's inputs.
        thumbnails: ``(n, 32, 32, 3) uint8`` of the whole images.
        resize: The shorter side that images were scaled to before they were cropped, pixels.
    """
    if not len(pixels):
        return Measures(*(np.empty(0, np.float32) for _ in Measures._fields))
    mean, deviation, colorfulness, gray = _colors(thumbnails)
    histogram, total = _histogram(pixels[:, ::_STEP, ::_STEP])
    values = (
        mean,
        deviation,
        histogram[:, :_DARK].sum(axis=1) / total,
        histogram[:, _BRIGHT + 1 :].sum(axis=1) / total,
        -_information(total)[histogram].sum(axis=1),
        _sharpness(pixels, max(1, round(resize / _SCALE))),
        colorfulness,
        gray,
    )
    return Measures(*(np.asarray(one, np.float32) for one in values))


def luminance_levels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luminance of each pixel, rounded down.

    Args:
        pixels: ``(..., 3) uint8`` RGB.

    Returns:
        ``(...) uint8``: (77 R + 150 G + 29 B) >> 8.
    """
    weighted = pixels[..., 1].astype(np.uint16)
    weighted *= _GREEN
    for channel, weight in ((0, _RED), (2, _BLUE)):
        weighted += pixels[..., channel].astype(np.uint16) * np.uint16(weight)
    weighted >>= 8
    return weighted.astype(np.uint8)


@cache
def _information(total: int) -> NDArray[np.float64]:
    """What a level with 0 to ``total`` of the pixels takes from the entropy, bits."""
    shares = np.arange(total + 1) / total
    return shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0)


def _colors(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.float64], ...]:
    """Mean and deviation of luminance, colorfulness, share of gray pixels."""
    planes = np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1, 3).transpose(2, 0, 1))
    brightest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    darkest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    is_gray = (brightest - darkest <= _GRAY).view(np.uint8)
    (mean, rg, yb), (deviation, rg_deviation, yb_deviation) = _moments(planes)
    spread = np.hypot(rg_deviation, yb_deviation / 2)
    colorfulness = spread + 0.3 * np.hypot(rg, yb / 2)
    gray = is_gray.sum(axis=1, dtype=np.uint32) / is_gray.shape[1]
    return mean / 256, deviation / 256, colorfulness, gray


def _moments(planes: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and standard deviations of some sums of red, green and blue, ``(3, n)`` each.

    The sums are 256 times the luminance, R - G and R + G - 2 B. Levels less 128 have products of at
    most 2^14, and totals of up to 1024 of them are whole numbers that float32 holds exactly.

    Args:
        planes: ``(3, n, k)``, k up to 1024.
    """
    red, green, blue = centered = np.subtract(planes, np.float32(_MIDDLE))
    count = planes.shape[-1]
    mixed = [np.vecdot(red, green), np.vecdot(red, blue), np.vecdot(green, blue)]
    totals = _WEIGHTS @ np.vecdot(centered, np.ones(count, np.float32)).astype(np.int64)
    squares = _WEIGHTS**2 @ np.vecdot(centered, centered).astype(np.int64)
    squares += 2 * (_WEIGHTS[:, [0, 0, 1]] * _WEIGHTS[:, [1, 2, 2]]) @ np.array(mixed, np.int64)
    variance = (squares * count - totals * totals) / (count * count)
    return totals / count + _MIDDLE * _WEIGHTS.sum(axis=1, keepdims=True), np.sqrt(variance)


def _histogram(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """How many pixels have each level of luminance, ``(n, 256)``; how many an image has."""
    count = len(pixels)
    levels = luminance_levels(pixels).reshape(count, -1).astype(np.intp)
    total = levels.shape[1]
    levels += np.arange(count)[:, None] * _LEVELS
    histogram = np.bincount(levels.reshape(-1), minlength=count * _LEVELS)
    return histogram.reshape(count, _LEVELS), total


def _sharpness(pixels: NDArray[np.uint8], reach: int) -> NDArray[np.float64]:
    """The variance of the Laplacian, with neighbors at a distance of ``reach`` pixels."""
    side = pixels.shape[1]
    if side <= 2 * reach:
        return np.zeros(len(pixels))
    span = side - 2 * reach
    above, middle, below = (  # widened once: NumPy is slow where it has to while it subtracts
        pixels[:, at : at + span : _ROWS, :, 1].astype(np.int16) for at in (0, reach, 2 * reach)
    )
    inside = slice(reach, side - reach)
    laplacian = middle[:, :, inside] * np.int16(4)
    for neighbors in (middle[:, :, :span], middle[:, :, 2 * reach :]):
        laplacian -= neighbors
    for neighbors in (above, below):
        laplacian -= neighbors[:, :, inside]
    values = laplacian.reshape(len(pixels), -1).astype(np.float64)
    count = values.shape[1]
    sums = values.sum(axis=1)
    variance: NDArray[np.float64] = np.vecdot(values, values) / count - (sums / count) ** 2
    return variance
