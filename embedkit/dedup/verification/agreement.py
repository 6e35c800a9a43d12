"""How far two images agree, once one is laid over the other: windows compared one by one.

Keypoints alone can't tell a copy from another photograph of the same face or place: what can is
whether nearly all that both show agrees. So every window with texture is correlated, at the
sharpness that both images have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.dedup.verification.foreign import foreign_things
from embedkit.dedup.verification.laying import Laid, blurred
from embedkit.dedup.verification.windows import (
    AGREES,
    FEWEST_WINDOWS,
    TEXTURE,
    WINDOW,
    Windows,
    box,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["Agreement", "agreement_of", "share_agreeing"]

_SQUARE = 41  # pixels: text and watermarks don't fill it, things do
_BLURS = (0.0, 0.8, 1.6)  # pixels, of both images: thumbnails, JPEG and noise lose fine details
_QUICK_BLUR = 0.8
_BETTER = 0.02  # more of the windows agree: blurring is worth it
_ENOUGH = 0.97  # of the windows agree: blurring more can't say more
_CONTRADICTS = 0.5  # correlation of two windows
_STEP, _PART = 8, 0.25  # levels, of a tone curve and of its table
_WHITE, _NEARLY_WHITE = 235.0, 225.0  # levels: clipped by brightening
_RESIDUAL, _LEAST_RESIDUAL = 0.35, 4.0  # of the contrast, and levels: pixels that agree
_BAND, _LEAST_LINES = 0.35, 4  # of the image, at most, and lines at least: a caption's band
_PLAIN, _ONE_LEVEL = 0.4, 12.0  # share of a line that is of one level; levels


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of all windows with texture in the overlap of two images, 0 to 1.

    Attributes:
        agreeing: That correlate by more than 0.9.
        tones: Of pixels whose level follows from the other's by one curve.
        replaced: Of the square of 41 pixels in which the images contradict each other most: the
            share of windows that do so, times that of pixels whose levels don't follow. High where
            another thing is in the same place; text leaves what is between its letters, and what is
            under a caption's even band isn't looked at.
        windows: Pixels that are the centre of a window with texture.
        foreign: How clearly each image shows a thing that the other one doesn't have, as
            `foreign_things` gives it: 0 is not at all, 1 and more clearly.
    """

    agreeing: float = 0.0
    tones: float = 0.0
    replaced: float = 1.0
    windows: int = 0
    foreign: float = 0.0


class _Seen(NamedTuple):
    """Two images equally blurred, and their windows.

    Attributes:
        first: ``(h, w)`` levels.
        second: ``(h, w)`` levels.
        windows: Of both.
        texture: Where they have texture, inside the overlap.
        share: Of these, those that agree; 0 of too few.
    """

    first: Values
    second: Values
    windows: Windows
    texture: Mask
    share: float

    @classmethod
    def of(cls, laid: Laid, blur: float) -> _Seen:
        first, second = laid.first, laid.second
        if blur:
            first, second = blurred(first, blur), blurred(second, blur)
        windows = Windows.of(first, second, WINDOW)
        texture = windows.with_texture(TEXTURE) & laid.inside
        count = int(np.count_nonzero(texture))
        share = 0.0
        if count > FEWEST_WINDOWS:
            share = np.count_nonzero(texture & (windows.correlation > AGREES)) / count
        return cls(first, second, windows, texture, share)


def share_agreeing(laid: Laid, *, of_plain: float = 0.0) -> float:
    """A first look: as ``Agreement.agreeing``, of one blur only.

    Args:
        laid: The two images.
        of_plain: What is returned if there are too few windows with texture.
    """
    seen = _Seen.of(laid, _QUICK_BLUR)
    plain = np.count_nonzero(seen.texture) <= FEWEST_WINDOWS
    return of_plain if plain else seen.share


def agreement_of(laid: Laid) -> Agreement:
    """Compares two images window by window, at that of some blurs at which they agree best."""
    best = _Seen.of(laid, _BLURS[0])
    for blur in _BLURS[1:]:
        if best.share > _ENOUGH:
            break
        seen = _Seen.of(laid, blur)
        if seen.share < best.share:
            break  # blurring more makes it worse still
        if seen.share > best.share + _BETTER:
            best = seen
    return _agreement(best, laid)


def _agreement(seen: _Seen, laid: Laid) -> Agreement:
    first, second, windows, texture = seen.first, seen.second, seen.windows, seen.texture
    agree = texture & (windows.correlation > AGREES)
    gain, curve = _tones(first, second, windows, agree)
    texture = texture & ~_clipped(windows, texture & ~agree, curve)
    count = int(texture.sum())
    if count <= FEWEST_WINDOWS:
        return Agreement(windows=count)
    both = texture & (windows.variance > TEXTURE) & (windows.other_variance > TEXTURE)
    differ, foreign = texture & (windows.correlation < _CONTRADICTS), 0.0
    if differ.any():
        bare = ~_banded(first, second)
        differ &= bare
        seen_bare = Laid(laid.first, laid.second, laid.inside & bare)
        foreign = foreign_things(seen_bare, _by_curve(curve, laid.first), differ, agree)
    contradict = both & differ
    contrast = np.sqrt(np.maximum(windows.other_variance, gain**2 * windows.variance))
    tolerance = np.maximum(_RESIDUAL * contrast, _LEAST_RESIDUAL)
    follows = np.abs(second - _by_curve(curve, first)) < tolerance
    replaced = box(contradict.astype(np.float32), _SQUARE)
    replaced *= 1 - box(follows.astype(np.float32), _SQUARE)
    return Agreement(
        agreeing=float((windows.correlation[texture] > AGREES).mean()),
        tones=float(follows[texture].mean()),
        replaced=float(replaced.max()),
        windows=count,
        foreign=foreign,
    )


def _banded(first: Values, second: Values) -> Mask:
    """Where one of the images has an even band along an edge, with text or not, the other none."""
    banded = np.zeros(first.shape, bool)
    for turns in range(4):
        one, other, part = (np.rot90(plane, turns) for plane in (first, second, banded))
        for mine, theirs in ((one, other), (other, one)):
            level = float(np.median(mine[:2]))
            lines = _band(mine, level)
            if lines >= _LEAST_LINES and _share_of(theirs[:lines], level).mean() < _PLAIN:
                part[: lines + WINDOW // 2 + 1] = True
    return banded


def _band(levels: Values, level: float) -> int:
    """The lines from the upper edge on that are mostly of one level; 0 if they are too many."""
    is_even = _share_of(levels[: int(_BAND * len(levels))], level) >= _PLAIN
    return 0 if is_even.all() else int(is_even.argmin())


def _share_of(levels: Values, level: float) -> NDArray[np.floating]:
    """The share of each line's pixels that are of about this level."""
    return np.asarray((np.abs(levels - level) < _ONE_LEVEL).mean(axis=1))


def _tones(
    first: Values, second: Values, windows: Windows, agree: Mask
) -> tuple[float, NDArray[np.floating]]:
    """The contrast of the second image relative to the first one, and its levels by those.

    Levels are the means where the images agree, in steps of 8 levels of the first: so brightening
    until all is white, or a curve, is followed as well.
    """
    centres = _STEP * (np.arange(256 // _STEP) + 0.5)
    if int(agree.sum()) <= FEWEST_WINDOWS:
        return 1.0, centres
    ratio = windows.other_variance[agree].mean() / (windows.variance[agree].mean() + 1e-6)
    gain = float(np.sqrt(ratio))
    offset = float(windows.other_mean[agree].mean() - gain * windows.mean[agree].mean())
    step = np.clip(first[agree] / _STEP, 0, len(centres) - 1).astype(np.int64)
    counts = np.bincount(step, minlength=len(centres))
    sums = np.bincount(step, second[agree], len(centres))
    linear = gain * centres + offset
    levels = np.where(counts > FEWEST_WINDOWS, sums / np.maximum(counts, 1), linear)
    return gain, levels.astype(np.float64)


def _by_curve(curve: NDArray[np.floating], levels: Values) -> Values:
    """Levels of the second image that follow from those of the first."""
    fine = np.interp(np.arange(0, 256, _PART), _STEP * (np.arange(len(curve)) + 0.5), curve)
    places = np.clip(levels / _PART, 0, len(fine) - 1).astype(np.intp)
    return np.asarray(fine[places], np.float32)


def _clipped(windows: Windows, differs: Mask, curve: NDArray[np.floating]) -> Mask:
    """Where windows differ since brightening, as it is elsewhere, made one of them white."""
    second = differs & (windows.other_mean > _WHITE) & (windows.other_variance < TEXTURE)
    if second.any():
        second &= _by_curve(curve, windows.mean) > _NEARLY_WHITE
    first = differs & (windows.mean > _WHITE) & (windows.variance < TEXTURE)
    if first.any():
        centres = _STEP * (np.arange(len(curve)) + 0.5)
        back = np.interp(windows.other_mean[first], np.maximum.accumulate(curve), centres)
        first[first] = back > _NEARLY_WHITE
    return second | first
