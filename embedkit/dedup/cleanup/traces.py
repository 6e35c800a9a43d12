"""Traces that editing leaves in an image, by which the original of several copies is recognised.

An editor's output has been compressed twice, lost its camera's data, its colours, its finest
details or its brightest shades, or got an even edge or noise. None of these is proof;
``original.py`` weighs them.

Sources: traces of an earlier compression in the DCT coefficients: Lukas, Fridrich, "Estimation of
primary quantization matrix in double compressed JPEG images" (2003); of its block grid: Fan, de
Queiroz, "Identification of bitmap compression history" (2003).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LUMA", "RATES", "Traces", "find_traces"]

RATES = (np.arange(50) + 0.5) / 100
"""Those of a spectrum, cycles a pixel."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The shares of the channels in the luma (Rec. 601)."""

_SIDE = 320  # of the square in the middle that is looked at, pixels
_THUMBNAIL = 32  # side, pixels
_LEAST_SIDE = 16  # of an image whose details are measured, pixels
_EVEN = 3.0  # levels: a standard deviation of a line that is even
_GRAY = 1.0  # levels: a mean distance of channels without colour
_EVEN_RUN = 16  # pixels of a line that hardly differ from each other
_STEPS = np.arange(2, 41)
_CONCENTRATED = 0.15
_ENOUGH = 60
_COARSER = 1.3  # ratio of steps from which on a compression isn't taken for the file's own
_LARGEST, _PARTS = 256, 8  # levels: of a coefficient; parts of a level that are counted apart
_USUAL_NOISE = 2.0  # logarithm (base 2) of levels, of photographs
_USUAL_STEP = 2.0  # of compression, of photographs
_USUAL_BRIGHTEST, _USUAL_DARKEST = 200.0, 30.0  # levels, of photographs
_FIRST_BASIS = (0.5 * np.cos((2 * np.arange(8) + 1) * np.pi / 16)).astype(np.float32)
_CAMERA_TAGS = (271, 272, 36867)  # maker, model, time of the photograph


@dataclass(frozen=True, slots=True)
class Traces:
    """What is measured of one image.

    Attributes:
        camera: 1 if a camera's data are there.
        pixels: Logarithm (base 2) of the pixels inside an even border.
        even_edge: Share of the image's edge that is even, as borders and turned images have it.
        gray: 1 if it has no colours.
        recompressed: Logarithm (base 2) of an earlier, coarser compression's step over the file's.
        shifted: 1 if that earlier compression's block grid isn't the file's own.
        noisy: By how much the noise is stronger than a photograph's, logarithm.
        dark: By how much the brightest parts are darker than a photograph's, hundreds of levels.
        washed_out: By how much the darkest parts are brighter, the same.
        step: Logarithm (base 2) of the file's own compression step; a usual one's where there is
            none, as copies of JPEG files are saved without loss, too.
        spectrum: ``(50,)`` float32, power of waves of up to half a cycle a pixel.
        thumbnail: ``(32, 32, 3)`` uint8 RGB, squashed.
    """

    camera: float
    pixels: float
    even_edge: float
    gray: float
    recompressed: float
    shifted: float
    noisy: float
    dark: float
    washed_out: float
    step: float
    spectrum: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]


def find_traces(data: bytes, pixels: NDArray[np.uint8]) -> Traces:
    """Measures one image.

    Args:
        data: The encoded image.
        pixels: ``(H, W, 3)`` uint8 RGB, decoded from it.
    """
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        camera = any(tags.get(tag) or tags.get_ifd(0x8769).get(tag) for tag in _CAMERA_TAGS)
        tables = getattr(image, "quantization", None)
    luma = pixels.astype(np.float32) @ LUMA
    left, top, right, bottom = _content(luma)
    inner = luma[top:bottom, left:right]
    darkest, brightest = np.percentile(inner, (0.5, 99.5)).tolist()
    own = float(max(tables[0][1], tables[0][8])) if tables else 1.0  # across, down
    earlier, is_shifted = _earlier_step(_middle(luma))
    is_coarser = earlier > _COARSER * own
    middle = _middle(inner)
    small = Image.fromarray(pixels).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    return Traces(
        camera=float(camera),
        pixels=float(np.log2(max(inner.size, 1))),
        even_edge=_even_edge(pixels),
        gray=float(_colour(pixels) < _GRAY),
        recompressed=float(np.log2(earlier / own)) if is_coarser else 0.0,
        shifted=float(is_shifted and is_coarser),
        noisy=max(_noise(middle) - _USUAL_NOISE, 0.0),
        dark=max(_USUAL_BRIGHTEST - brightest, 0.0) / 100,
        washed_out=max(darkest - _USUAL_DARKEST, 0.0) / 100,
        step=float(np.log2(own if tables else _USUAL_STEP)),
        spectrum=_spectrum(middle),
        thumbnail=np.asarray(small),
    )


def _colour(pixels: NDArray[np.uint8]) -> float:
    """The mean distance of the brightest channel from the darkest one, levels."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    brightest = np.maximum(np.maximum(red, green), blue)
    return float((brightest - np.minimum(np.minimum(red, green), blue)).mean())


def _even_edge(pixels: NDArray[np.uint8]) -> float:
    """The share of the four lines next to the image's edge that is in even runs."""
    across, down = (min(1, side - 1) for side in pixels.shape[:2])
    lines = (pixels[across], pixels[-1 - across], pixels[:, down], pixels[:, -1 - down])
    even = total = 0
    for line in lines:
        is_even = np.abs(np.diff(line.astype(np.int16), axis=0)).max(axis=1, initial=0) <= 1
        ends = np.flatnonzero(np.diff(np.pad(is_even.astype(np.int8), 1)))
        lengths = ends[1::2] - ends[::2]
        even += int(lengths[lengths >= _EVEN_RUN].sum())
        total += len(line)
    return even / total


def _middle(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square in the middle, its corner on the block grid."""
    top, left = (max(side - _SIDE, 0) // 2 // 8 * 8 for side in luma.shape)
    return luma[top : top + _SIDE, left : left + _SIDE]


def _content(luma: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is inside an even border."""
    rows, columns = (np.flatnonzero(luma.std(axis=axis) > _EVEN) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0, 0, luma.shape[1], luma.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _earlier_step(luma: NDArray[np.float32]) -> tuple[float, bool]:
    """The step of an earlier compression: the largest that DCT coefficients are multiples of.

    Returns:
        The step, 1 if none is found, and whether its block grid isn't the file's own.
    """
    from scipy.ndimage import correlate1d

    steps = [np.ones(64, np.int64)]
    for lines in (luma, luma.T):
        if min(lines.shape) < 64:
            continue
        sums = correlate1d(lines, np.full(8, 8**-0.5, np.float32), axis=0, origin=-4)
        found = np.abs(correlate1d(sums, _FIRST_BASIS, axis=1, origin=-4))[:-8, :-8]
        down, right = (np.arange(side) % 8 for side in found.shape)
        steps.append(_largest_steps(found, down[:, None] * 8 + right))
    best = max(int(each.max()) for each in steps)
    return float(best), all(each[0] < best for each in steps)


@cache
def _waves(least: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each step which coefficients count, and a wave over their sizes; ``(39, sizes)`` each.

    Args:
        least: They are larger than so many steps.
    """
    steps = _STEPS[:, None].astype(np.float32)
    levels = (np.arange(_LARGEST * _PARTS, dtype=np.float32) + 0.5) / _PARTS
    counted = (levels > least * steps).astype(np.float32)
    counted[:, -1] = 0
    return counted, np.cos(np.float32(2 * np.pi) / steps * levels) * counted


def _largest_steps(sizes: NDArray[np.float32], grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest step that the coefficients of each of 64 grids are multiples of; 1 without."""
    bins = _LARGEST * _PARTS
    places = np.minimum(sizes * _PARTS, bins - 1).astype(np.int64)
    counts = np.bincount((grid * bins + places).ravel(), minlength=64 * bins)
    counts = counts.reshape(64, bins).astype(np.float32)
    found = np.ones((64, len(_STEPS)), bool)
    # An even slope has one coefficient all over: there must be other multiples, too.
    for least, enough in ((0.25, _ENOUGH), (1.5, _ENOUGH // 3)):
        counted, waves = _waves(least)
        number = np.maximum(counts @ counted.T, 1)
        mean = counts @ waves.T / number
        # Chance makes a mean of n cosines as large as 6 / sqrt(2n) in one of 10^9 cases.
        found &= (number >= enough) & (mean > np.maximum(_CONCENTRATED, 6 / np.sqrt(2 * number)))
    return np.asarray((found * _STEPS).max(axis=1, initial=1))


def _noise(luma: NDArray[np.float32]) -> float:
    """The noise, a logarithm: the median of the details that only diagonal neighbours show."""
    if min(luma.shape) < _LEAST_SIDE:
        return 0.0
    height, width = (side // 2 * 2 for side in luma.shape)
    block = luma[:height, :width].reshape(height // 2, 2, width // 2, 2)
    diagonal = (block[:, 0, :, 0] + block[:, 1, :, 1]) / 2 - block.mean(axis=(1, 3))
    return float(np.log2(np.median(np.abs(diagonal)) / 0.6745 + 0.1))


def _spectrum(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean power of rows and columns at 50 rates up to half a cycle a pixel."""
    if min(luma.shape) < _LEAST_SIDE:
        return np.zeros(len(RATES), np.float32)
    powers = []
    for lines in (luma, luma.T):
        window = np.hanning(lines.shape[1]).astype(np.float32)
        waves = np.fft.rfft((lines - lines.mean(axis=1, keepdims=True)) * window, axis=1)
        power = (np.abs(waves) ** 2).mean(axis=0) / (window**2).sum()
        powers.append(np.interp(RATES, np.fft.rfftfreq(lines.shape[1]), power))
    return np.asarray(np.mean(powers, axis=0), np.float32)
