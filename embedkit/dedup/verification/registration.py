"""Registration of two images: the maps that may lay the one over the other.

Most copies show the whole image in its place: that map is tried first. Otherwise keypoints that
look alike vote for a homography, and all is tried with the first image mirrored as well.

Source: Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from embedkit.dedup.verification.keypoints import Matches, match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.verification.image_to_compare import ImageToCompare

__all__ = [
    "FEWEST_INLIERS",
    "Registration",
    "by_keypoints",
    "by_place",
]

FEWEST_INLIERS = 6
"""Keypoints that must agree on a map."""

_WAYS, _PROMISING = 2, 0.15  # of the eight ways; share of a thumbnail's windows that agrees
_TOLERANCE, _CLOSE = 3.0, 1.5  # of a mapped keypoint, pixels
_NEARLY = 0.9  # as many keypoints must agree on a simpler map
_SIMPLER = (cv2.estimateAffine2D, cv2.estimateAffinePartial2D)
_LEAST_DEPTH = 1e-9
_NEARLY_AS_LIKELY = 0.7  # of the votes of the likelier way
_SURE_OF_WAY = 20  # votes for the image as it is: that map is tried before others are looked for
_FAR, _FEWEST_OF_BEND = 12.0, 30  # pixels that a homography may be off; keypoints that must agree
_CLEARLY = 1.2  # times as many keypoints must agree on a bend
_PLACE = 6.0  # pixels: keypoints of one place are one witness
_PARTS = 4  # of an image, across and down
_ELSEWHERE = 10.0  # pixels off: a match that the map doesn't explain
_LARGEST_SCALE, _STRETCH = 10.0, 2.2
_NEAREST_CORNER = 0.2  # of a perspective, as a share of the farthest one's depth


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
        spread: Share of the 16 parts of the second image in which keypoints agree, 0 to 1.
        bend: A closer map that isn't a homography; None if none is closer.
    """

    matrix: NDArray[np.float64]
    flip: bool
    inliers: int = 0
    elsewhere: int = 0
    bend: Bend | None = None
    spread: float = 0.0

    def whole(self, first: ImageToCompare) -> NDArray[np.float64]:
        """The map of pixels of the first ``gray`` as it is, mirroring included."""
        mirror = np.array([[-1.0, 0, first.gray.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
        return self.matrix @ mirror if self.flip else self.matrix


def by_place(first: ImageToCompare, second: ImageToCompare) -> Iterator[Registration]:
    """Maps that lay the whole first image over the whole second one, the likeliest first.

    Of the eight ways to turn and mirror an image, those by which the thumbnails agree somewhat.
    """
    for turns, flip in _likeliest_ways(first, second):
        turned = first.thumbnail.turned(turns, flip=flip)
        if turned.share_agreeing(second.thumbnail) > _PROMISING:
            places = np.roll(_corner_pixels(second.gray.shape), turns, axis=0)
            matrix = cv2.getPerspectiveTransform(_corner_pixels(first.gray.shape), places)
            yield Registration(np.asarray(matrix, np.float64), flip)


def _likeliest_ways(first: ImageToCompare, second: ImageToCompare) -> list[tuple[int, bool]]:
    """Turns to the left by quarters, and whether mirrored before: the two that agree best."""
    likeness = first.ways @ second.ways[0]
    best = np.argsort(-likeness, kind="stable")[:_WAYS].tolist()
    return [(place % 4, place >= 4) for place in best]


def _corner_pixels(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The centres of the corner pixels, clockwise from the upper left."""
    bottom, right = max(shape[0] - 1, 1), max(shape[1] - 1, 1)
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)


def by_keypoints(first: ImageToCompare, second: ImageToCompare) -> Iterator[Registration]:
    """Maps that the keypoints agree on, mirrored or not, the likelier first.

    In a copy, all right matches turn and scale the image alike. Where fewer do than have to agree,
    there is no map to look for; and of the two ways it is the one for which more do, but for images
    that are their own mirror images.
    """
    own = first.keypoints
    straight = match(own, second.keypoints)
    is_sure = straight.votes >= _SURE_OF_WAY
    if is_sure and (found := _by_matches(straight, first, second, flip=False)) is not None:
        yield found
    ways = straight, match(own.mirrored(first.gray.shape[1]), second.keypoints)
    most = max(way.votes for way in ways)
    for flip in sorted((False, True), key=lambda flip: -ways[flip].votes):
        is_known = is_sure and not flip
        if not is_known and ways[flip].votes >= max(FEWEST_INLIERS, _NEARLY_AS_LIKELY * most):
            found = _by_matches(ways[flip], first, second, flip=flip)
            if found is not None:
                yield found


def _by_matches(
    matches: Matches, first: ImageToCompare, second: ImageToCompare, *, flip: bool
) -> Registration | None:
    """The map that matches agree on; None if there is none."""
    points, targets = matches.points, matches.targets
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
    spread = _spread(targets[agree], second.gray.shape)
    return Registration(matrix, flip, inliers, int((off > _ELSEWHERE).sum()), bend, spread)


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


def _spread(points: NDArray[np.float32], shape: tuple[int, ...]) -> float:
    """The share of the parts of an image, 4 across and 4 down, that points lie in."""
    parts = np.clip(points * _PARTS / np.array(shape[1::-1]), 0, _PARTS - 1).astype(int)
    return len(np.unique(parts, axis=0)) / _PARTS**2


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
