"""How far two images agree, once one is laid over the other: windows compared one by one.

Keypoints alone can't tell a copy from another photograph of the same face or place: what can is
whether nearly all that both show agrees. So every window with texture is correlated, at the
sharpness that both images have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from embedkit.dedup.verification.registration import (
    EVEN_OF_GRAPHICS,
    corners_of,
    mapped,
    scaling,
    shrunk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.verification.registration import Bend, ImageToCompare, Registration

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = [
    "Agreement",
    "Laid",
    "agreement_of",
    "equally_sharp",
    "fine_contradictions",
    "lay",
    "recolored",
    "registered",
    "share_agreeing",
    "share_moved",
]

_WORK, _FINE_WORK = 192, 512  # longer side of what is compared, pixels
_LEAST_SIDE = 6  # of an overlap, pixels
_WINDOW, _FINE_WINDOW = 11, 9
_CELL = 12  # pixels: sharpness is compared cell by cell
_SQUARE = 41  # pixels: text and watermarks don't fill it, things do
_BLURS = (0.0, 0.8, 1.6)  # pixels, of both images: thumbnails, JPEG and noise lose fine details
_LOST_SHARPNESS = 0.2  # log ratio from which on the sharper image is blurred as the other one
_MATCHING_BLURS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # pixels
_QUICK_BLUR = 0.8
_ENOUGH = 0.97  # of the windows agree: blurring more can't say more
_TEXTURE, _FINE_TEXTURE = 6.0, 60.0  # variances, levels squared: what counts as texture
_AGREES, _CONTRADICTS = 0.9, 0.5  # correlations of two windows
_EVEN_OF_SURE_GRAPHICS = 0.6
_FINE_BLUR, _FINE_DETAIL = 0.6, 100.0  # pixels; levels squared
_EVERY = 7  # one pixel of so many tells how colours are mixed
_STEP, _PART = 8, 0.25  # levels, of a tone curve and of its table
_WHITE, _NEARLY_WHITE = 235.0, 225.0  # levels: clipped by brightening
_FEWEST_WINDOWS = 20  # with texture
_PATCHES, _PATCH, _REACH, _IN_PLACE = 80, 7, 6, 1.5  # how many; pixels: half a side, and how far
_RESIDUAL, _LEAST_RESIDUAL = 0.35, 4.0  # of the contrast, and levels: pixels that agree


@dataclass(frozen=True, slots=True)
class Laid:
    """Two images in one frame.

    Attributes:
        first: ``(h, w)`` float32 levels.
        second: ``(h, w)`` float32 levels.
        inside: ``(h, w)`` where both are.
    """

    first: Values
    second: Values
    inside: Mask


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of all windows with texture in the overlap of two images, 0 to 1.

    Attributes:
        agreeing: That correlate by more than 0.9.
        tones: Of pixels whose level follows from the other's by one curve.
        replaced: Of the square of 41 pixels in which the images contradict each other most: the
            share of windows that do so, times that of pixels whose levels don't follow. High where
            another thing is in the same place; text leaves what is between its letters.
        windows: Pixels that are the centre of a window with texture.
    """

    agreeing: float = 0.0
    tones: float = 0.0
    replaced: float = 1.0
    windows: int = 0


@dataclass(frozen=True, slots=True)
class _Windows:
    """Statistics of the window around each pixel, ``(h, w)`` each."""

    mean: Values
    other_mean: Values
    variance: Values
    other_variance: Values
    correlation: Values

    @classmethod
    def of(cls, first: Values, second: Values, side: int) -> Self:
        mean, other = _box(first, side), _box(second, side)
        variance = np.maximum(_box(first * first, side) - mean * mean, 0)
        other_variance = np.maximum(_box(second * second, side) - other * other, 0)
        product = _box(first * second, side) - mean * other
        correlation = product / np.sqrt((variance + 1) * (other_variance + 1))
        return cls(mean, other, variance, other_variance, correlation)

    def with_texture(self, least: float) -> Mask:
        return np.maximum(self.variance, self.other_variance) > least


def lay(
    first: NDArray[np.uint8], second: NDArray[np.uint8], matrix: NDArray[np.float64], side: int
) -> Laid | None:
    """Lays two gray images over each other, in the frame of the coarser one.

    Args:
        first: ``(h, w)``.
        second: ``(h, w)``.
        matrix: Homography from the first to the second.
        side: Longer side of the frame, pixels, at most.

    Returns:
        The overlap; None if there is next to none.
    """
    centre = np.array([first.shape[1] / 2, first.shape[0] / 2, 1.0])
    at = matrix @ centre
    local = (matrix[:2, :2] - np.outer(at[:2] / at[2], matrix[2, :2])) / at[2]
    scale = float(np.sqrt(abs(np.linalg.det(local))))
    if scale <= 1:
        return _lay_finer(first, second, matrix, scale, side)
    back = np.asarray(np.linalg.inv(matrix), np.float64)
    laid = _lay_finer(second, first, back, 1 / scale, side)
    return None if laid is None else Laid(laid.second, laid.first, laid.inside)


def _lay_finer(
    finer: NDArray[np.uint8],
    coarser: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    scale: float,
    side: int,
) -> Laid | None:
    """Lays the finer image over the coarser one, which it is mapped to ``scale`` times as large."""
    places = mapped(matrix, corners_of(finer.shape))
    low = np.maximum(places.min(0), 0)
    span = np.minimum(places.max(0), coarser.shape[::-1]) - low
    if span.min() < _LEAST_SIDE:
        return None
    factor = min(1.0, side / span.max())
    width, height = (max(round(float(edge) * factor), _LEAST_SIDE) for edge in span)
    shift = (factor - 1) / 2 - low * factor
    frame = np.array([[factor, 0, shift[0]], [0, factor, shift[1]], [0, 0, 1]])
    mask = np.ones(finer.shape, np.uint8)
    inside = cv2.warpPerspective(mask, frame @ matrix, (width, height), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)
    return Laid(
        _warped(finer, frame @ matrix, (width, height), scale * factor),
        _warped(coarser, frame, (width, height), factor),
        np.asarray(inside > 0),
    )


def _warped(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int], scale: float
) -> Values:
    """An image mapped, blurred before so that no detail is skipped over."""
    if scale < 0.95:
        image = np.asarray(_blurred(image, 0.5 * np.sqrt(1 / scale**2 - 1)))
    out = cv2.warpPerspective(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def registered(first: ImageToCompare, second: ImageToCompare, found: Registration) -> Laid | None:
    """The two images in gray laid over each other by a registration, at most 192 pixels a side."""
    return _laid(first.gray, second.gray, found)


def _laid(first: NDArray[np.uint8], second: NDArray[np.uint8], found: Registration) -> Laid | None:
    own = _turned(first, found)
    if found.bend is None:
        return lay(own, second, found.matrix, _WORK)
    if found.bend.to_first:
        return _lay_bent(own, second, found.bend)
    laid = _lay_bent(second, own, found.bend)
    return Laid(laid.second, laid.first, laid.inside)


def recolored(
    first: ImageToCompare, second: ImageToCompare, found: Registration, laid: Laid
) -> Iterator[Laid]:
    """The same in other planes than gray, for copies whose colours were turned.

    By the largest of the three colours, which turning hues leaves alone; and with the mixture of
    the first image's colours that is nearest to the second image's gray where both agree.

    Args:
        first: The first image.
        second: The second image.
        found: The map.
        laid: Both in gray, equally sharp.
    """
    brightest = _laid(first.colors.max(0), second.colors.max(0), found)
    if brightest is None:
        return
    yield brightest
    agree = laid.inside & _agreeing(laid)
    planes = [_laid(plane, second.gray, found) for plane in first.colors]
    gray = planes[0]
    if gray is None or agree.sum() <= _FEWEST_WINDOWS:
        return
    terms = [one.first for one in planes if one is not None]
    terms += [brightest.first, np.full_like(brightest.first, 255)]
    mixed = np.stack(terms, -1)
    aim = gray.second[agree][::_EVERY]
    weights = np.linalg.lstsq(mixed[agree][::_EVERY], aim, rcond=None)[0]
    yield Laid(np.clip(mixed @ weights, 0, 255).astype(np.float32), gray.second, gray.inside)


def _agreeing(laid: Laid) -> Mask:
    windows = _Windows.of(laid.first, laid.second, _WINDOW)
    return windows.with_texture(_TEXTURE) & (windows.correlation > _AGREES)


def _lay_bent(bent: NDArray[np.uint8], frame: NDArray[np.uint8], bend: Bend) -> Laid:
    """Lays an image over another one, in whose frame a bend gives the places of the first."""
    small = shrunk(frame, _WORK)
    places = np.stack(np.meshgrid(*(np.arange(side) for side in small.shape[::-1])), -1)
    scale = np.array(frame.shape[::-1]) / small.shape[::-1]
    there = bend.mapped((places + 0.5) * scale - 0.5).astype(np.float32)
    step = float(np.linalg.norm(np.diff(there, axis=1), axis=-1).mean())
    if step > 1 / 0.95:
        bent = np.asarray(_blurred(bent, 0.5 * np.sqrt(step**2 - 1)))
    laid = cv2.remap(bent, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((there >= 0) & (there <= np.array(bent.shape[::-1]) - 1)).all(-1)
    return Laid(laid.astype(np.float32), small.astype(np.float32), np.asarray(inside))


def equally_sharp(laid: Laid) -> Laid:
    """The same with the sharper image blurred until it is as blurred, or as free of noise."""
    images = [laid.first, laid.second]
    details = [_details(image) for image in images]
    lost = _sharper(details[0], details[1], laid.inside)
    if abs(lost) < _LOST_SHARPNESS:
        return laid
    sharper = 0 if lost > 0 else 1
    for blur in _MATCHING_BLURS:
        blurred = _blurred(images[sharper], blur)
        if _sharper(_details(blurred), details[1 - sharper], laid.inside) <= 0:
            break
    images[sharper] = blurred
    return Laid(images[0], images[1], laid.inside)


def _turned(gray: NDArray[np.uint8], found: Registration) -> NDArray[np.uint8]:
    return np.ascontiguousarray(gray[:, ::-1]) if found.flip else gray


def share_agreeing(laid: Laid) -> float:
    """A first look: as ``Agreement.agreeing``, of one blur only."""
    first, second = _blurred(laid.first, _QUICK_BLUR), _blurred(laid.second, _QUICK_BLUR)
    windows = _Windows.of(first, second, _WINDOW)
    texture = windows.with_texture(_TEXTURE) & laid.inside
    count = int(texture.sum())
    if count <= _FEWEST_WINDOWS:
        return 0.0
    return float((windows.correlation[texture] > _AGREES).mean())


def agreement_of(laid: Laid) -> Agreement:
    """Compares two images window by window, at that of some blurs at which they agree best."""
    best = Agreement()
    for blur in _BLURS:
        found = _agreement_at(laid, blur)
        if found.agreeing > best.agreeing + 0.02 * (best.windows > 0):
            best = found
        if best.agreeing > _ENOUGH:
            break
    return best


def _details(image: Values) -> Values:
    """Of each cell of the image, the contrast of fine details as a share of that of coarse ones."""
    cells = tuple(max(round(side / _CELL), 1) for side in image.shape[::-1])
    fine, coarse = (
        cv2.resize((image - _blurred(image, blur)) ** 2, cells, interpolation=cv2.INTER_AREA)
        for blur in (1.0, 4.0)
    )
    return np.asarray(np.sqrt((fine + 1e-3) / (coarse + 1.0)))


def _sharper(details: Values, other: Values, inside: Mask) -> float:
    """How much sharper the one image is in most places, a log ratio: text is in few of them."""
    both = cv2.resize(inside.astype(np.float32), details.shape[::-1], interpolation=cv2.INTER_AREA)
    ratio = np.log(details / other)[both > 0.9]
    return float(np.median(ratio)) if len(ratio) else 0.0


def _agreement_at(laid: Laid, blur: float) -> Agreement:
    first, second = (
        _blurred(image, blur) if blur else image for image in (laid.first, laid.second)
    )
    windows = _Windows.of(first, second, _WINDOW)
    texture = windows.with_texture(_TEXTURE) & laid.inside
    agree = texture & (windows.correlation > _AGREES)
    gain, curve = _tones(first, second, windows, agree)
    texture &= ~_clipped(windows, texture & ~agree, curve)
    count = int(texture.sum())
    if count <= _FEWEST_WINDOWS:
        return Agreement(windows=count)
    values = windows.correlation[texture]
    both = texture & (windows.variance > _TEXTURE) & (windows.other_variance > _TEXTURE)
    contradict = both & (windows.correlation < _CONTRADICTS)
    contrast = np.sqrt(np.maximum(windows.other_variance, gain**2 * windows.variance))
    tolerance = np.maximum(_RESIDUAL * contrast, _LEAST_RESIDUAL)
    follows = np.abs(second - _by_curve(curve, first)) < tolerance
    replaced = _box(contradict.astype(np.float32), _SQUARE)
    replaced *= 1 - _box(follows.astype(np.float32), _SQUARE)
    return Agreement(
        agreeing=float((values > _AGREES).mean()),
        tones=float(follows[texture].mean()),
        replaced=float(replaced.max()),
        windows=count,
    )


def _tones(
    first: Values, second: Values, windows: _Windows, agree: Mask
) -> tuple[float, NDArray[np.floating]]:
    """The contrast of the second image relative to the first one, and its levels by those.

    Levels are the means where the images agree, in steps of 8 levels of the first: so brightening
    until all is white, or a curve, is followed as well.
    """
    centres = _STEP * (np.arange(256 // _STEP) + 0.5)
    if int(agree.sum()) <= _FEWEST_WINDOWS:
        return 1.0, centres
    ratio = windows.other_variance[agree].mean() / (windows.variance[agree].mean() + 1e-6)
    gain = float(np.sqrt(ratio))
    offset = float(windows.other_mean[agree].mean() - gain * windows.mean[agree].mean())
    step = np.clip(first[agree] / _STEP, 0, len(centres) - 1).astype(np.int64)
    counts = np.bincount(step, minlength=len(centres))
    sums = np.bincount(step, second[agree], len(centres))
    linear = gain * centres + offset
    levels = np.where(counts > _FEWEST_WINDOWS, sums / np.maximum(counts, 1), linear)
    return gain, levels.astype(np.float64)


def _by_curve(curve: NDArray[np.floating], levels: Values) -> Values:
    """Levels of the second image that follow from those of the first."""
    fine = np.interp(np.arange(0, 256, _PART), _STEP * (np.arange(len(curve)) + 0.5), curve)
    places = np.clip(levels / _PART, 0, len(fine) - 1).astype(np.intp)
    return np.asarray(fine[places], np.float32)


def _clipped(windows: _Windows, differs: Mask, curve: NDArray[np.floating]) -> Mask:
    """Where windows differ since brightening, as it is elsewhere, made one of them white."""
    second = differs & (windows.other_mean > _WHITE) & (windows.other_variance < _TEXTURE)
    if second.any():
        second &= _by_curve(curve, windows.mean) > _NEARLY_WHITE
    first = differs & (windows.mean > _WHITE) & (windows.variance < _TEXTURE)
    if first.any():
        centres = _STEP * (np.arange(len(curve)) + 0.5)
        back = np.interp(windows.other_mean[first], np.maximum.accumulate(curve), centres)
        first[first] = back > _NEARLY_WHITE
    return second | first


def share_moved(laid: Laid) -> float:
    """The share of windows that agree a few pixels off, but not in their place, 0 to 1.

    Text and shapes over a copy are nowhere in its original. In another photograph of one scene,
    most of what doesn't agree has only moved.
    """
    first, second = _blurred(laid.first, _QUICK_BLUR), _blurred(laid.second, _QUICK_BLUR)
    windows = _Windows.of(first, second, _WINDOW)
    texture = windows.with_texture(_TEXTURE) & laid.inside
    differ = texture & (windows.correlation <= _AGREES)
    margin = _PATCH + _REACH
    within = np.zeros_like(differ)
    within[margin:-margin, margin:-margin] = True
    places = np.argwhere(differ & within)
    if len(places) <= _FEWEST_WINDOWS:
        return 0.0
    drawn = np.random.default_rng(0).permutation(len(places))[:_PATCHES]
    moved = [_has_moved(first, second, *places[number].tolist()) for number in drawn]
    return float(differ.sum() / texture.sum() * np.mean(moved))


def _has_moved(first: Values, second: Values, row: int, column: int) -> bool:
    patch = second[row - _PATCH : row + _PATCH + 1, column - _PATCH : column + _PATCH + 1]
    reach = _PATCH + _REACH
    around = first[row - reach : row + reach + 1, column - reach : column + reach + 1]
    found = cv2.matchTemplate(around, patch, cv2.TM_CCOEFF_NORMED)
    down, across = divmod(int(found.argmax()), found.shape[1])
    distance = np.hypot(down - _REACH, across - _REACH)
    return bool(found[down, across] > _AGREES and distance > _IN_PLACE)


def fine_contradictions(
    first: ImageToCompare, second: ImageToCompare, found: Registration
) -> float:
    """Of graphics: the share of small windows in which both show something else; 0 of photographs.

    Two charts, codes or pages of text may agree in layout, and differ in what they say. Noise, blur
    and overlays take details away or add some; only another content has other details in its place.
    """
    evens = first.even, second.even
    if min(evens) < EVEN_OF_GRAPHICS and max(evens) < _EVEN_OF_SURE_GRAPHICS:
        return 0.0
    fine, other = (image.gray if image.fine is None else image.fine for image in (first, second))
    matrix = scaling(other, second.gray) @ found.matrix @ scaling(first.gray, fine)
    laid = lay(_turned(fine, found), other, matrix, _FINE_WORK)
    if laid is None:
        return 1.0
    windows = _Windows.of(
        _blurred(laid.first, _FINE_BLUR), _blurred(laid.second, _FINE_BLUR), _FINE_WINDOW
    )
    texture = windows.with_texture(_FINE_TEXTURE) & laid.inside
    both = np.minimum(windows.variance, windows.other_variance) > _FINE_DETAIL
    differ = texture & both & (windows.correlation < _CONTRADICTS)
    return float(differ.sum() / max(int(texture.sum()), 1))


def _blurred(image: NDArray[np.generic], sigma: float) -> Values:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))


def _box(values: Values, side: int) -> Values:
    return np.asarray(cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REPLICATE))
