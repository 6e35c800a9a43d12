"""Registration of two images: the maps that may lay the one over the other.

Most copies show the whole image in its place: that map is tried first. Otherwise keypoints that
look alike vote for a homography, and all is tried with the first image mirrored as well.

Source: Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from embedkit.dedup.verification.keypoints import Keypoints, find_keypoints, match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "EVEN_OF_GRAPHICS",
    "FEWEST_INLIERS",
    "ImageToCompare",
    "Registration",
    "by_keypoints",
    "by_place",
]

FEWEST_INLIERS = 6
"""Keypoints that must agree on a map."""

EVEN_OF_GRAPHICS = 0.35
"""Share of even areas from which on an image may be a graphic; few photographs have so many."""

_WAYS, _PROMISING = 2, 0.15  # of the eight ways; share of a thumbnail's windows that agrees
_SIDE, _FINE_SIDE = 384, 768  # of the longer side, pixels
_THUMBNAIL, _THUMBNAIL_BLUR, _THUMBNAIL_WINDOW, _COARSE = 64, 0.8, (7, 7), 16
_THUMBNAIL_TEXTURE, _THUMBNAIL_AGREES = 2.6, 0.8
_TOLERANCE, _CLOSE = 3.0, 1.5  # of a mapped keypoint, pixels
_NEARLY = 0.9  # as many keypoints must agree on a simpler map
_SIMPLER = (cv2.estimateAffine2D, cv2.estimateAffinePartial2D)
_LEAST_DEPTH = 1e-9
_FAR, _FEWEST_OF_BEND = 12.0, 30  # pixels that a homography may be off; keypoints that must agree
_CLEARLY = 1.2  # times as many keypoints must agree on a bend
_PLACE = 6.0  # pixels: keypoints of one place are one witness
_ELSEWHERE = 10.0  # pixels off: a match that the map doesn't explain
_LARGEST_SCALE, _STRETCH = 10.0, 2.2
_NEAREST_CORNER = 0.2  # of a perspective, as a share of the farthest one's depth


@dataclass(frozen=True)
class ImageToCompare:
    """What verification needs of an image.

    Attributes:
        gray: ``(h, w)`` uint8, at most 384 pixels on the longer side.
        colors: ``(3, h, w)``, the same of red, green and blue.
        fine: As ``gray`` of a graphic (text, charts, codes), at most 768 pixels; None of a
            photograph.
        even: Share of its even areas, 0 to 1: large of graphics.
        size: Width and height of the image itself, pixels.
    """

    gray: NDArray[np.uint8]
    colors: NDArray[np.uint8]
    fine: NDArray[np.uint8] | None
    even: float
    size: tuple[int, int]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """Of ``(H, W, 3)`` uint8 RGB."""
        height, width = pixels.shape[:2]
        pixels = np.ascontiguousarray(pixels)
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        fine = shrunk(np.asarray(gray, np.uint8), _FINE_SIDE)
        even = even_share(fine)
        small = shrunk(fine, _SIDE)
        colors = cv2.resize(pixels, small.shape[::-1], interpolation=cv2.INTER_AREA)
        return cls(
            small,
            np.stack(cv2.split(colors)).astype(np.uint8, copy=False),
            fine if even > EVEN_OF_GRAPHICS else None,
            even,
            (width, height),
        )

    @cached_property
    def keypoints(self) -> Keypoints:
        """In ``gray``; looked for when they are first needed."""
        return find_keypoints(self.gray)

    @cached_property
    def thumbnail(self) -> Thumbnail:
        """For a first look at the whole image."""
        return Thumbnail.of(self.gray)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small square copy of a whole image, with the statistics of its windows.

    Attributes:
        values: ``(64, 64)`` float32 levels, slightly blurred.
        mean: ``(64, 64)`` of the window around each pixel.
        deviation: ``(64, 64)`` of the window around each pixel.
        coarse: ``(16, 16)`` levels less their surroundings'.
    """

    values: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    coarse: NDArray[np.float32]

    @classmethod
    def of(cls, gray: NDArray[np.uint8]) -> Self:
        """Of ``(h, w)``."""
        small = cv2.resize(gray, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        values = cv2.GaussianBlur(small.astype(np.float32), (0, 0), _THUMBNAIL_BLUR)
        mean = cv2.boxFilter(values, -1, _THUMBNAIL_WINDOW)
        variance = cv2.boxFilter(values * values, -1, _THUMBNAIL_WINDOW) - mean * mean
        deviation = np.sqrt(np.maximum(variance, 0) + 1)
        details = (values - cv2.GaussianBlur(values, (0, 0), _THUMBNAIL / 8)) / (deviation + 10)
        coarse = cv2.resize(details, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        return cls(values, mean, deviation, np.asarray(coarse, np.float32))

    def turned(self, turns: int, *, flip: bool) -> Thumbnail:
        """Of the image mirrored left to right, if asked, then turned by quarters to the left."""
        return Thumbnail(
            *(
                np.rot90(plane[:, ::-1] if flip else plane, turns)
                for plane in (self.values, self.mean, self.deviation, self.coarse)
            )
        )

    def share_agreeing(self, other: Thumbnail) -> float:
        """The share of windows with texture that correlate, 0 to 1; 1 if none has texture."""
        texture = np.maximum(self.deviation, other.deviation) > _THUMBNAIL_TEXTURE
        if not texture.any():
            return 1.0
        product = cv2.boxFilter(self.values * other.values, -1, _THUMBNAIL_WINDOW)
        correlation = (product - self.mean * other.mean) / (self.deviation * other.deviation)
        return float((correlation[texture] > _THUMBNAIL_AGREES).mean())


@dataclass(frozen=True, slots=True)
class Bend:
    """A map of places ``x, y`` to ``weights @ [1, x, y, x * y]``.

    So do programs that stretch an image to four given corners, the plain ones: its lines across and
    down stay straight, but others don't, as they do in a photograph of it.

    Attributes:
        weights: ``(2, 4)``, pixels of ``gray``, the first one mirrored if ``flip``.
        to_first: Whether it maps the second image to the first one, or the first to the second.
    """

    weights: NDArray[np.float64]
    to_first: bool

    @staticmethod
    def terms(places: NDArray[np.floating]) -> NDArray[np.float64]:
        """``(..., 4)`` of ``(..., 2)`` places."""
        across, down = places[..., 0], places[..., 1]
        return np.stack([np.ones_like(across), across, down, across * down], -1).astype(np.float64)

    def mapped(self, places: NDArray[np.floating]) -> NDArray[np.float64]:
        """``(..., 2)`` places mapped."""
        return np.asarray(self.terms(places) @ self.weights.T)


@dataclass(frozen=True, slots=True)
class Registration:
    """A map from the first image to the second one.

    Attributes:
        matrix: ``(3, 3)`` homography of pixels of ``gray``, the first one mirrored if ``flip``.
        flip: Whether the first image is mirrored left to right before.
        inliers: Places at which keypoints agree; 0 if the map isn't by keypoints.
        elsewhere: Keypoints of both that match, but not by this map: things that moved.
        bend: A closer map that isn't a homography; None if none is closer.
    """

    matrix: NDArray[np.float64]
    flip: bool
    inliers: int = 0
    elsewhere: int = 0
    bend: Bend | None = None

    def whole(self, first: ImageToCompare) -> NDArray[np.float64]:
        """The map of pixels of the first ``gray`` as it is, mirroring included."""
        mirror = np.array([[-1.0, 0, first.gray.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
        return self.matrix @ mirror if self.flip else self.matrix


def by_place(first: ImageToCompare, second: ImageToCompare) -> Iterator[Registration]:
    """Maps that lay the whole first image over the whole second one, the likeliest first.

    Of the eight ways to turn and mirror an image, those by which the thumbnails agree somewhat.
    """
    for turns, flip in _likeliest_ways(first.thumbnail, second.thumbnail):
        turned = first.thumbnail.turned(turns, flip=flip)
        if turned.share_agreeing(second.thumbnail) > _PROMISING:
            places = np.roll(_corner_pixels(second.gray.shape), turns, axis=0)
            matrix = cv2.getPerspectiveTransform(_corner_pixels(first.gray.shape), places)
            yield Registration(np.asarray(matrix, np.float64), flip)


def _likeliest_ways(first: Thumbnail, second: Thumbnail) -> list[tuple[int, bool]]:
    """Turns to the left by quarters, and whether mirrored before: the two that agree best."""
    ways = [(turns, flip) for flip in (False, True) for turns in range(4)]
    coarse = [
        np.rot90(first.coarse[:, ::-1] if flip else first.coarse, turns) for turns, flip in ways
    ]
    likeness = np.stack([plane.ravel() for plane in coarse]) @ second.coarse.ravel()
    return [ways[place] for place in np.argsort(-likeness, kind="stable")[:_WAYS]]


def _corner_pixels(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The centres of the corner pixels, clockwise from the upper left."""
    bottom, right = max(shape[0] - 1, 1), max(shape[1] - 1, 1)
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)


def by_keypoints(
    first: ImageToCompare, second: ImageToCompare, *, flip: bool
) -> Registration | None:
    """The map that the keypoints agree on; None if there is none."""
    source = first.keypoints.mirrored(first.gray.shape[1]) if flip else first.keypoints
    left, right = match(source, second.keypoints)
    points, targets = source.points[left], second.keypoints.points[right]
    matrix = _estimated(points, targets, first.gray.shape)
    if matrix is None:
        return None
    off = _off(matrix, points, targets)
    agree = off < _TOLERANCE
    inliers = min(_places(points[agree]), _places(targets[agree]))
    if inliers < FEWEST_INLIERS:
        return None
    bend = _bend(points, targets, off)
    if bend is not None:
        off = np.minimum(off, _off_bend(bend, points, targets))
    return Registration(matrix, flip, inliers, int((off > _ELSEWHERE).sum()), bend)


def _bend(
    points: NDArray[np.float32], targets: NDArray[np.float32], off: NDArray[np.float64]
) -> Bend | None:
    """A bend that clearly more keypoints agree on than on a homography; None if there is none."""
    near, close = off < _FAR, int((off < _CLOSE).sum())
    if close >= _NEARLY * near.sum() or near.sum() < _FEWEST_OF_BEND:
        return None
    for to_first in (True, False):
        source, aim = (targets, points) if to_first else (points, targets)
        bend, agree = None, near
        for tolerance in (_FAR, _TOLERANCE, _CLOSE):
            weights = np.linalg.lstsq(Bend.terms(source[agree]), aim[agree], rcond=None)[0]
            bend = Bend(np.asarray(weights.T, np.float64), to_first)
            agree = near & (_off_bend(bend, points, targets) < tolerance)
            if agree.sum() < _FEWEST_OF_BEND:
                break
        else:
            if agree.sum() > _CLEARLY * close:
                return bend
    return None


def _off_bend(
    bend: Bend, points: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.float64]:
    source, aim = (targets, points) if bend.to_first else (points, targets)
    return np.asarray(np.linalg.norm(bend.mapped(source) - aim, axis=1))


def _estimated(
    points: NDArray[np.float32], targets: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """The simplest map that most keypoints agree on: few can't tell all that a homography has."""
    if len(points) < FEWEST_INLIERS:
        return None
    found = [_homography(points, targets)]
    if found[0] is not None:
        agree = _off(found[0], points, targets) < _TOLERANCE
        points, targets = points[agree], targets[agree]
    found += [_affine(estimate, points, targets) for estimate in _SIMPLER]
    maps = [matrix for matrix in found if matrix is not None and _is_plausible(matrix, shape)]
    if not maps:
        return None
    agreeing = [int((_off(matrix, points, targets) < _CLOSE).sum()) for matrix in maps]
    enough = _NEARLY * max(agreeing)
    return next(m for m, count in zip(maps[::-1], agreeing[::-1], strict=True) if count >= enough)


def _homography(
    points: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    matrix, _ = cv2.findHomography(points, targets, cv2.USAC_MAGSAC, _TOLERANCE, None, 1000, 0.999)
    if matrix is None or not np.isfinite(matrix).all() or abs(matrix[2, 2]) < _LEAST_DEPTH:
        return None
    return np.asarray(matrix / matrix[2, 2], np.float64)


def _affine(
    estimate: Callable[..., Any], points: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    if len(points) < FEWEST_INLIERS:
        return None
    matrix, _ = estimate(
        points, targets, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=1000
    )
    return None if matrix is None else np.vstack([matrix, [0, 0, 1]])


def _off(
    matrix: NDArray[np.float64], points: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How far mapped keypoints are from their matches, ``(n,)`` pixels."""
    return np.asarray(np.linalg.norm(mapped(matrix, points) - targets, axis=1))


def _is_plausible(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether a map turns, scales and shears as an edit does, without mirroring."""
    if not np.isfinite(matrix).all():
        return False
    corners = corners_of(shape)
    depth = np.column_stack([corners, np.ones(4)]) @ matrix[2]
    if (depth <= _NEAREST_CORNER * depth.max()).any():
        return False
    edges = np.diff(mapped(matrix, corners), axis=0, append=mapped(matrix, corners[:1]))
    following = np.roll(edges, -1, axis=0)
    if (edges[:, 0] * following[:, 1] <= edges[:, 1] * following[:, 0]).any():
        return False  # mirrored or folded
    sizes = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return bool(
        sizes[0] < _LARGEST_SCALE
        and sizes[1] > 1 / _LARGEST_SCALE
        and sizes[0] < _STRETCH * sizes[1]
    )


def _places(points: NDArray[np.float32]) -> int:
    return len(np.unique(np.round(points / _PLACE), axis=0))


def mapped(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """``(n, 2)`` points mapped by a homography."""
    out = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(out[:, :2] / out[:, 2:])


def corners_of(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The corners of an image, clockwise from the upper left, ``(4, 2)``."""
    height, width = shape[:2]
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def scaling(to: NDArray[np.uint8], of: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The map of pixel centres from an image to the same one of another size, ``(3, 3)``."""
    across, down = to.shape[1] / of.shape[1], to.shape[0] / of.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image whose longer side is at most ``side`` pixels."""
    return shrunk_by(image, side / max(image.shape[:2]))


def shrunk_by(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """An image of ``factor`` times the size; itself if that is 1 or more."""
    if factor >= 1:
        return image
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def even_share(gray: NDArray[np.uint8]) -> float:
    """The share of pixels whose surroundings are of one level, 0 to 1."""
    kernel = np.ones((5, 5), np.uint8)
    spread = cv2.dilate(gray, kernel).astype(np.int16) - cv2.erode(gray, kernel)
    return float((spread <= 2).mean())
