"""Geometric verification of a pair (SIFT and RANSAC): is one image made from the other, and how?

Keypoints that look alike vote for one affine map from the first image to the second (RANSAC), with
the second image mirrored as well; then the first image is laid over the second by that map, and
what surrounds each place is correlated: photographs of one scene, or of one person, share
keypoints, but agree only here and there. Images with too few keypoints (a sky, a blurred copy) are
laid over each other whole, in the eight ways that an image can be turned and mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.verification.sift import LocalFeatures

__all__ = ["Evidence", "compare", "estimate_maps"]

_RATIO = 0.85  # a match's distance to the next best one's
_TOLERANCE = 4.0  # of a keypoint mapped, pixels
_FEWEST = 6  # inliers that a map is believed of
_STRETCH = 8.0  # a map that scales more than that, or by the inverse, is no copy
_ANISOTROPY = 2.0
_CLEAR = 20.0  # inliers times correlation: no need to try the mirror image
_THUMBNAIL, _LAID = 48, 128  # sides at which images are correlated, pixels
_FINE, _COARSE = 0.01, 0.06  # the sizes of the details that are correlated, shares of the side
_AROUND = 0.06  # of a place, a share of the side
_AGREEING = 0.35  # of all places, as large a part of the first image may be left in the second
_DETAIL, _NOISE = 1.0, 0.25  # levels squared: what counts as details, what doesn't matter


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that one image is made from the other.

    Attributes:
        inliers: Keypoints that agree on the map.
        share: Of the matched keypoints, the share that agrees, 0 to 1.
        covered: Share of the second image that the first one covers by the map, 0 to 1.
        correlation: Of the details of both around a place where they overlap by the map: at least
            so much in the better 35% of all places with details, -1 to 1; 0 without map.
        whole: Correlation of the details of the two whole images, the best of eight ways, -1 to 1.
        how: How the second image was made from the first: ``crop`` (left, top, right, bottom of
            what is left, in shares of the first image), ``flip``, ``rotation`` (degrees,
            clockwise), ``scale`` (the second's pixels per pixel of the first).
    """

    inliers: int
    share: float
    covered: float
    correlation: float
    whole: float
    how: Mapping[str, Any]


def compare(first: LocalFeatures, second: LocalFeatures) -> Evidence:
    """Estimates the map that makes the second image from the first, mirrored or not."""
    whole, turned = _whole(first.gray, second.gray)
    found = _best_map(first, second)
    if found.inliers >= _FEWEST:
        how = _describe(found.matrix, found.flip, first, second)
        return Evidence(found.inliers, found.share, found.covered, found.correlation, whole, how)
    return Evidence(
        found.inliers, found.share, 0.0, 0.0, whole, _describe_turn(turned, first, second)
    )


def estimate_maps(first: LocalFeatures, second: LocalFeatures) -> list[NDArray[np.float64]]:
    """Maps that may make the second image from the first, ``(3, 3)`` each, the likeliest first.

    They map pixels of ``first.gray`` to those of ``second.gray``: one by the keypoints, if there
    are enough, and the one that lays the whole first image over the second in the best of eight
    ways.
    """
    maps = []
    found = _best_map(first, second)
    if found.inliers >= _FEWEST:
        mirror = np.array([[-1, 0, first.gray.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
        maps.append(np.vstack([found.matrix, [0, 0, 1]]) @ (mirror if found.flip else np.eye(3)))
    turns, flip = _whole(first.gray, second.gray)[1]
    corners, places = (_corners(image.shape) for image in (first.gray, second.gray))
    if flip:
        corners = corners[[1, 0, 3, 2]]
    turned = np.roll(places, turns, axis=0)
    return [*maps, np.asarray(cv2.getPerspectiveTransform(corners, turned))]


def _corners(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The corner pixels of an image, clockwise from the upper left."""
    bottom, right = shape[0] - 1, shape[1] - 1
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)


def _best_map(first: LocalFeatures, second: LocalFeatures) -> _Registered:
    """The map by keypoints, of the mirrored image where that is better."""
    found = _register(first, second, flip=False)
    if _strength(found) < _CLEAR:
        found = max(found, _register(first, second, flip=True), key=_strength)
    return found


@dataclass(frozen=True, slots=True)
class _Registered:
    """A map from the first image (mirrored, if ``flip``) to the second, both as in ``gray``."""

    flip: bool
    matrix: NDArray[np.float64]
    inliers: int
    share: float
    covered: float
    correlation: float


def _strength(found: _Registered) -> float:
    return found.inliers * max(found.correlation, 0.05)


def _register(first: LocalFeatures, second: LocalFeatures, *, flip: bool) -> _Registered:
    source = first.mirrored() if flip else first
    nothing = _Registered(flip, np.eye(2, 3), 0, 0.0, 0.0, 0.0)
    left, right = _match(source.unit_descriptors(), second.unit_descriptors())
    if len(left) < _FEWEST:
        return nothing
    points, targets = source.points[left], second.points[right]
    matrix, mask = cv2.estimateAffine2D(
        points, targets, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=2000,
        confidence=0.999,
    )  # fmt: skip
    if matrix is None or not _is_plausible(matrix):
        return nothing
    agree = mask.ravel().astype(bool)
    # Many keypoints of one place are one witness: count the places on a grid of 4 pixels.
    places = len(np.unique(np.round(targets[agree] / 4), axis=0))
    covered, correlation = _overlap(source.gray, second.gray, matrix)
    return _Registered(flip, matrix, places, float(agree.mean()), covered, correlation)


def _match(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Descriptors that are each other's nearest, and clearly nearer than the next."""
    if len(left) < 2 or len(right) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    similar = left @ right.T
    best = similar.argmax(1)
    rows = np.arange(len(left))
    nearest = similar[rows, best]
    mutual = similar.argmax(0)[best] == rows
    similar[rows, best] = -1
    distance, following = (np.sqrt(np.maximum(2 - 2 * s, 0)) for s in (nearest, similar.max(1)))
    kept = np.flatnonzero(mutual & (distance < _RATIO * following))
    return kept, best[kept]


def _is_plausible(matrix: NDArray[np.float64]) -> bool:
    """Whether a map turns, scales and shears as an edit does, without mirroring."""
    linear = matrix[:, :2]
    sizes = np.linalg.svd(linear, compute_uv=False)
    return bool(
        np.linalg.det(linear) > 0
        and sizes[0] < _STRETCH
        and sizes[1] > 1 / _STRETCH
        and sizes[0] < _ANISOTROPY * sizes[1]
    )


def _overlap(
    first: NDArray[np.uint8], second: NDArray[np.uint8], matrix: NDArray[np.float64]
) -> tuple[float, float]:
    """The share of the second image that is covered, and the correlation of details there."""
    shrink = min(_LAID / max(second.shape), 1.0)
    size = max(round(second.shape[1] * shrink), 1), max(round(second.shape[0] * shrink), 1)
    small = cv2.resize(second, size, interpolation=cv2.INTER_AREA)
    # By an image scaled as much, so that its details aren't skipped over.
    source = cv2.resize(first, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    scaled = matrix.copy()
    scaled[:, 2] *= shrink
    laid = cv2.warpAffine(source, scaled, size)
    mask = cv2.warpAffine(np.ones_like(source), scaled, size, flags=cv2.INTER_NEAREST)
    covered = float(mask.mean())
    if covered < 0.01:
        return 0.0, 0.0
    weight = mask.astype(np.float32)
    return covered, _agreement(_details(laid, weight), _details(small, weight), weight)


def _agreement(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
) -> float:
    """The least local correlation of details among the places that agree best."""
    sigma = _AROUND * max(first.shape)
    one, two, both = (
        _smooth(product, sigma) for product in (first * first, second * second, first * second)
    )
    there = (np.maximum(one, two) > _DETAIL) & (weight > 0)
    if not there.any():
        return 0.0
    found = both[there] / (np.sqrt(one[there] * two[there]) + _NOISE)
    return float(np.quantile(found, 1 - _AGREEING))


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation of the details, -1 to 1; 0 where there are none."""
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / norms if norms > 1e-2 * first.size else 0.0


def _details(image: NDArray[np.uint8], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The band-passed image where ``weight`` is 1: details without noise and brightness."""
    values = image.astype(np.float32) * weight
    side = max(image.shape)
    fine, coarse = (
        _smooth(values, sigma * side) / np.maximum(_smooth(weight, sigma * side), 1e-3)
        for sigma in (_FINE, _COARSE)
    )
    return np.asarray((fine - coarse) * weight, np.float32)


def _smooth(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma))


def _whole(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[float, tuple[int, bool]]:
    """The best correlation of two whole images, and how the first was turned for it."""
    small, other = _thumbnail(first), _thumbnail(second)
    ways = {
        (turns, flip): _cosine(np.rot90(small[:, ::-1] if flip else small, turns), other)
        for flip in (False, True)
        for turns in range(4)
    }
    best = max(ways, key=ways.__getitem__)
    return ways[best], best


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return _details(small, np.ones_like(small, np.float32))


def _describe(
    matrix: NDArray[np.float64], flip: bool, first: LocalFeatures, second: LocalFeatures
) -> dict[str, Any]:
    """The map in terms of an edit."""
    height, width = second.gray.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    back = cv2.invertAffineTransform(matrix)
    seen = corners @ back[:, :2].T + back[:, 2]
    size = np.array(first.gray.shape[::-1], np.float64)
    if flip:
        seen[:, 0] = size[0] - seen[:, 0]
    low, high = (np.clip(edge / size, 0, 1) for edge in (seen.min(0), seen.max(0)))
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    scale *= max(second.size) / max(second.gray.shape) / (max(first.size) / max(first.gray.shape))
    angle = np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    return {
        "crop": [round(float(edge), 3) for edge in (*low, *high)],
        "flip": flip,
        "rotation": round(float(angle), 1),
        "scale": round(float(scale), 3),
    }


def _describe_turn(
    turned: tuple[int, bool], first: LocalFeatures, second: LocalFeatures
) -> dict[str, Any]:
    """The whole image, turned by quarters, counter-clockwise in ``numpy.rot90``."""
    turns, flip = turned
    return {
        "crop": [0.0, 0.0, 1.0, 1.0],
        "flip": flip,
        "rotation": float((-90 * turns + 180) % 360 - 180),
        "scale": round(max(second.size) / max(first.size), 3),
    }
