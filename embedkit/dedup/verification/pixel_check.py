"""A strict check before an image is removed: is all that it shows in the kept image, too?

Keypoints give the map between the two images, which is refined on the pixels. By it the kept image
is laid over the other one, and small windows are compared one by one. It isn't the share of windows
that agree which decides: two forms that differ in one name agree in nearly all. It is whether any
spot is left that differs. Each window is compared at the finest scale that both images have:
blurred and shrunk copies pass, and two pages of text, which agree once they are blurred, don't.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from embedkit.dedup.verification.geometric import registrations
from embedkit.dedup.verification.image_to_compare import (
    ImageToCompare,
    even_share,
    shrunk,
    shrunk_by,
)
from embedkit.dedup.verification.laying import scaling
from embedkit.dedup.verification.windows import largest_spot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Values = NDArray[np.float32]

__all__ = ["CheckedImage", "why_not_contained"]

_SIDE = 512  # of the longer side at which windows are compared, pixels
_WINDOW = 15  # the smallest one
_NEAR_EDGE = 31  # a window, and the ringing of JPEG blocks on both of its sides
# Scales, finest first, and the windows that are compared at each, pixels: a graphic differs in
# single letters and digits, and isn't noisy.
_IN_PHOTO = {0.6: 15, 1.5: 15, 3.0: 21, 6.0: 31}
_IN_GRAPHIC = {0.6: 9, 1.5: 11, 3.0: 15}
_AGREEING = 0.75  # least correlation of two windows that agree
_DETAIL = 4.0  # levels: a standard deviation that counts as detail
_UNEXPLAINED = 6.0  # levels: one that compression may add
_NOISE = 12.0  # levels: at most so much is put down to noise
_SCALE_LOST = 1.5  # ratio of contrasts from which on one of the images lacks a scale
_FLAT = 0.25  # share of even areas from which on an image is a graphic
_SPOT, _SPOT_IN_GRAPHIC = 0.004, 0.00008  # largest spot that may differ, share of the image
_DIFFERING = 0.02  # all that may differ, share of the detailed windows
_COLOUR, _COLOURED = 40.0, 0.004  # levels, and the share of the image that may differ by more
_LEAST_SHARE = 0.05  # of a window
_FINER, _FINER_DETAILS = 1.15, 0.05  # ratio of resolutions, share of windows that tell
_LEAST_DETAIL = 0.01  # share of the image
_SAME_MAP = 0.01  # of a side: the refinement makes one of two maps whose corners are so near
_NOT_ALIGNED = "the pixels of the two can't be aligned"


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What the check needs of an image.

    Attributes:
        features: What registers it.
        small: ``(h, w, 3)`` uint8 RGB, at most 512 pixels on the longer side.
        middle: ``(h, w)`` uint8, its middle in gray, not scaled, at most 512 pixels a side.
    """

    features: ImageToCompare
    small: NDArray[np.uint8]
    middle: NDArray[np.uint8]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """Of ``(H, W, 3)`` uint8 RGB."""
        pixels = np.ascontiguousarray(pixels)
        top, left = (max(side - _SIDE, 0) // 2 for side in pixels.shape[:2])
        middle = np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])
        gray = np.asarray(cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY), np.uint8)
        return cls(ImageToCompare.of(pixels), shrunk(pixels, _SIDE), gray)


def why_not_contained(
    removed: CheckedImage, kept: CheckedImage, *, resolution: bool = False
) -> str:
    """Why an image isn't a copy of another one, or a part of it; empty if it is.

    What only the kept image shows doesn't count: a crop is contained in its original, but the
    original isn't contained in its crop. Nor do even borders count.

    Args:
        removed: The image that is to be removed.
        kept: The image that is to stay.
        resolution: Whether the kept image must also have all details in the same fineness.
    """
    reasons: list[str] = []
    tried: list[Values] = []
    height, width = kept.features.gray.shape
    corners = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], np.float32)
    for found in registrations(kept.features, removed.features):
        matrix = found.whole(kept.features)
        laid = np.asarray(cv2.perspectiveTransform(corners, matrix))
        near = _SAME_MAP * max(removed.features.gray.shape)
        if any(np.abs(laid - one).max() < near for one in tried):
            continue
        tried.append(laid)
        reasons.append(_why_not_by(matrix, removed, kept, resolution=resolution))
        if not reasons[-1]:
            return ""
    return reasons[0] if reasons else _NOT_ALIGNED


def _why_not_by(
    matrix: NDArray[np.float64], removed: CheckedImage, kept: CheckedImage, *, resolution: bool
) -> str:
    """Why the one isn't contained in the other, if it were made from it by this map."""
    laid = _lay(matrix, kept, removed)
    if laid is None:
        return _NOT_ALIGNED
    below, above, inside = laid
    gray, other = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (above, below))
    is_graphic = max(even_share(gray), even_share(other)) > _FLAT
    scales = _IN_GRAPHIC if is_graphic else _IN_PHOTO
    values = other.astype(np.float32), gray.astype(np.float32)
    detailed, differs = _differing(*values, inside, scales)
    if detailed.mean() < _LEAST_DETAIL:
        return "too little detail to tell"
    spot = _SPOT_IN_GRAPHIC if is_graphic else _SPOT
    size, where = largest_spot(differs)
    if size > spot * differs.size or differs.sum() > _DIFFERING * detailed.sum():
        return f"the pixels differ, most of all at {where}"
    size, where = largest_spot(_other_colour(below, above, inside))
    if size > _COLOURED * gray.size:
        return f"the colours differ, most of all at {where}"
    if resolution and _is_finer(matrix, removed, kept):
        return "it shows finer details"
    return ""


def _is_finer(matrix: NDArray[np.float64], removed: CheckedImage, kept: CheckedImage) -> bool:
    """Whether the removed image has details for which the kept one has too few pixels."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    scale *= removed.features.size[0] / removed.features.gray.shape[1]
    scale *= kept.features.gray.shape[1] / kept.features.size[0]
    if scale < _FINER or min(removed.middle.shape) < _WINDOW * scale:
        return False
    values = removed.middle.astype(np.float32)
    coarse = cv2.resize(values, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    lost = values - cv2.resize(coarse, values.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return float((_box(lost * lost, _WINDOW) > _DETAIL**2).mean()) > _FINER_DETAILS


def _lay(
    matrix: NDArray[np.float64], kept: CheckedImage, removed: CheckedImage
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]] | None:
    """The kept image laid over the removed one, the latter, and where they overlap.

    Both are scaled to the coarser resolution of the two.
    """
    matrix = (
        scaling(removed.small, removed.features.gray)
        @ matrix
        @ scaling(kept.features.gray, kept.small)
    )
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if not 1e-2 < scale < 1e2:
        return None
    below, above = shrunk_by(kept.small, min(scale, 1)), shrunk_by(removed.small, min(1 / scale, 1))
    matrix = scaling(above, removed.small) @ matrix @ scaling(kept.small, below)
    if min(*above.shape[:2], *below.shape[:2]) < _WINDOW:
        return None
    matrix = _refined(matrix, below, above)
    size = above.shape[1], above.shape[0]
    laid = cv2.warpPerspective(below, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    mask = np.full(below.shape[:2], 255, np.uint8)
    inside = cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_NEAREST) > 0
    return np.asarray(laid, np.uint8), above, inside


def _refined(
    matrix: NDArray[np.float64], below: NDArray[np.uint8], above: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """The map with the best correlation of the pixels near a map (ECC), or that map."""
    start = np.linalg.inv(matrix)[:2].astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-4)
    source, target = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (below, above))
    try:
        _, found = cv2.findTransformECC(
            target, source, start, cv2.MOTION_AFFINE, stop, np.full_like(target, 255), 5
        )
        return np.asarray(np.linalg.inv(np.vstack([found, [0, 0, 1]])))
    except (cv2.error, np.linalg.LinAlgError):  # no better one: the keypoints' map stays
        return matrix


def _differing(
    below: Values, above: Values, inside: NDArray[np.bool_], scales: Mapping[float, int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Windows of ``above`` with details, and those of them that ``below`` doesn't explain."""
    noise = min(max(_noise(below), _noise(above)), _NOISE)
    agrees, both_have = np.zeros(above.shape, bool), np.ones(above.shape, bool)
    detailed = np.zeros(above.shape, bool)
    gain = 1.0
    moments = [
        _moments(_blurred(below, blur), _blurred(above, blur), window)
        for blur, window in scales.items()
    ]
    if inside.any():
        mine, theirs = (moments[-1][i][inside].sum() + 1 for i in (0, 1))
        gain = float(theirs / mine)
    for blur, (source, target, product) in zip(scales, moments, strict=True):
        left = (noise / (2 * blur)) ** 2
        unexplained = target - product**2 / np.maximum(source, 1e-3)
        correlation = product / np.sqrt(np.maximum(source * target, 1e-6))
        same = (correlation > _AGREEING) | (unexplained < _UNEXPLAINED**2 + 4 * left)
        agrees |= both_have & same
        if source is moments[0][0]:
            detailed = target > _DETAIL**2 + 4 * left
        ratio = (source * gain + 2) / (target + 2)
        both_have &= np.maximum(ratio, 1 / ratio) > _SCALE_LOST**2
    mask, kernel = inside.astype(np.uint8), np.ones((_NEAR_EDGE, _NEAR_EDGE), np.uint8)
    across_edge = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    across_edge &= ~_has_details_outside(above, mask)  # of an even border that was added
    edge = _WINDOW // 2
    within = np.s_[edge:-edge, edge:-edge] if min(above.shape) > 3 * _WINDOW else np.s_[:, :]
    return detailed[within], (detailed & ~(agrees & inside) & ~across_edge)[within]


def _has_details_outside(above: Values, mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the windows of an image have details outside the overlap, well off its edge."""
    outside = cv2.erode(1 - mask, np.ones((5, 5), np.uint8)).astype(np.float32)
    share = np.maximum(_box(outside, _WINDOW), 1e-6)
    mean = _box(above * outside, _WINDOW) / share
    spread = _box(above * above * outside, _WINDOW) / share - mean * mean
    return (share > _LEAST_SHARE) & (spread > _UNEXPLAINED**2)


def _moments(below: Values, above: Values, window: int) -> tuple[Values, Values, Values]:
    """The variances of the windows around each pixel, and their covariance."""
    mean, other = _box(below, window), _box(above, window)
    return (
        np.maximum(_box(below * below, window) - mean * mean, 0),
        np.maximum(_box(above * above, window) - other * other, 0),
        _box(below * above, window) - mean * other,
    )


def _noise(values: Values) -> float:
    """The standard deviation of the noise: of the fine details where there are fewest."""
    fine = values - _blurred(values, 1)
    return float(np.quantile(np.sqrt(np.maximum(_box(fine * fine, _WINDOW), 0)), 0.05))


def _other_colour(
    below: NDArray[np.uint8], above: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Where the colours differ, after each channel's brightness and contrast are matched.

    A gray image is contained in a coloured one.
    """
    source, target = (_blurred(image.astype(np.float32), 3) for image in (below, above))
    channels = cv2.split(target)
    brightest, darkest = (reduce(least, channels) for least in (np.maximum, np.minimum))
    if float((brightest - darkest).mean()) < _DETAIL:
        return np.zeros(inside.shape, bool)
    apart = np.zeros(inside.shape, bool)
    for channel in range(3):
        x, y = source[..., channel], target[..., channel]
        if inside.any():
            a, b = x[inside], y[inside]
            slope = float(np.cov(a, b)[0, 1] / (a.var() + 1)) if len(a) > 1 else 0.0
            apart |= np.abs(y - b.mean() - slope * (x - a.mean())) > _COLOUR
    well_inside = cv2.erode(inside.astype(np.uint8), np.ones((_WINDOW, _WINDOW), np.uint8)) > 0
    return np.asarray(apart & well_inside)


def _blurred(values: Values, sigma: float) -> Values:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma))


def _box(values: Values, window: int) -> Values:
    return np.asarray(cv2.boxFilter(values, -1, (window, window)))
