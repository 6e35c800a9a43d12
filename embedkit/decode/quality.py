"""Measures of an image's quality, on pixels that decoding has made anyway.

Luminance and colour are measured on the thumbnail of the whole image (32 x 32 pixels), the rest on
the network's input: its center at a fixed scale. The definitions, exactly:

- luminance: (77 R + 150 G + 29 B) / 256 (Rec. 601), 0 to 255; mean and standard deviation over the
  thumbnail.
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

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measures", "measure"]

_RED, _GREEN, _BLUE = 77, 150, 29
_DARK, _BRIGHT = 4, 251
_GRAY = 3
_STEP, _ROWS = 7, 16
_SCALE = 256  # pixels of the shorter side
_LEVELS = 256


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
    count = len(pixels)
    if not count:
        return Measures(*(np.empty(0, np.float32) for _ in Measures._fields))
    mean, deviation, colorfulness, gray = _colors(thumbnails)
    histogram = _histogram(pixels[:, ::_STEP, ::_STEP])
    total = histogram.sum(axis=1)
    shares = histogram / total[:, None]
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    values = (
        mean,
        deviation,
        histogram[:, :_DARK].sum(axis=1) / total,
        histogram[:, _BRIGHT + 1 :].sum(axis=1) / total,
        -(shares * logs).sum(axis=1),
        _sharpness(pixels, max(1, round(resize / _SCALE))),
        colorfulness,
        gray,
    )
    return Measures(*(np.asarray(one, np.float32) for one in values))


def _luminance(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """256 times the luminance."""
    out = np.multiply(rgb[..., 1], _GREEN, dtype=np.uint16)
    out += np.multiply(rgb[..., 0], _RED, dtype=np.uint16)
    out += np.multiply(rgb[..., 2], _BLUE, dtype=np.uint16)
    return out


def _colors(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.float64], ...]:
    """Mean and deviation of luminance, colorfulness, share of gray pixels."""
    planes = np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1, 3).transpose(2, 0, 1))
    luminance = np.ascontiguousarray(_luminance(np.moveaxis(planes, 0, -1)))
    mean, deviation = _moments(luminance.astype(np.int64))
    red, green, blue = planes.astype(np.int16)
    rg, yb = (
        _moments((red - green).astype(np.int64)),
        _moments((red + green - 2 * blue).astype(np.int64)),
    )
    spread = np.hypot(rg[1], yb[1] / 2)
    colorfulness = spread + 0.3 * np.hypot(rg[0], yb[0] / 2)
    is_gray = planes.max(axis=0) - planes.min(axis=0) <= _GRAY
    return mean / 256, deviation / 256, colorfulness, is_gray.mean(axis=1)


def _moments(values: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each row, from sums of whole numbers."""
    count = values.shape[1]
    sums = values.sum(axis=1)
    squares = np.einsum("nk,nk->n", values, values)
    variance = (squares * count - sums * sums) / (count * count)
    return sums / count, np.sqrt(variance)


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels have each level of luminance, ``(n, 256)``."""
    count = len(pixels)
    levels = _luminance(pixels).reshape(count, -1) >> 8
    levels = levels + np.arange(count)[:, None] * _LEVELS
    return np.bincount(levels.reshape(-1), minlength=count * _LEVELS).reshape(count, _LEVELS)


def _sharpness(pixels: NDArray[np.uint8], reach: int) -> NDArray[np.float64]:
    """The variance of the Laplacian, with neighbors at a distance of ``reach`` pixels."""
    side = pixels.shape[1]
    if side <= 2 * reach:
        return np.zeros(len(pixels))
    above, below = (pixels[:, at : at + side - 2 * reach : _ROWS] for at in (0, 2 * reach))
    middle = pixels[:, reach : side - reach : _ROWS, :, 1].astype(np.int16)
    laplacian = 4 * middle[:, :, reach:-reach]
    laplacian -= middle[:, :, : -2 * reach]
    laplacian -= middle[:, :, 2 * reach :]
    laplacian -= above[:, :, reach:-reach, 1]
    laplacian -= below[:, :, reach:-reach, 1]
    flat = laplacian.reshape(len(pixels), -1)
    count = flat.shape[1]
    sums = flat.sum(axis=1, dtype=np.int64)
    wide = flat.astype(np.float32)  # whole numbers up to 1020, squares are exact in float64
    squares = np.einsum("nk,nk->n", wide, wide, dtype=np.float64)
    variance: NDArray[np.float64] = squares / count - (sums / count) ** 2
    return variance
