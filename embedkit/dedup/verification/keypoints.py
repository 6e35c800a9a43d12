"""Keypoints of an image (SIFT), of its mirror image, and those that two images have in common.

Sources: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004); the square root
of descriptors: Arandjelovic, Zisserman, "Three things everyone should know to improve object
retrieval" (2012).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.errors import MissingExtraError

try:
    import cv2
except ImportError as exc:  # pragma: no cover - one or the other
    raise MissingExtraError("opencv-python-headless", "verify", "verification on pixels") from exc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["MIRRORED", "Keypoints", "Matches", "find_keypoints", "match"]

# Of the longer side, pixels: larger images are shrunk, tiny ones enlarged.
_SIDE, _LARGER_SIDE, _LEAST_SIDE = 192, 384, 96
_FEW = 100  # keypoints: of fewer, an image is looked at larger
_MOST = 300
_CONTRAST = 0.02  # half of Lowe's: blurred and dark copies have little of it
_LEVELS = 255  # of a descriptor's values
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "points": ("<f4", (2,)), "descriptors": ("|u1", (128,)), "turns": ("<f4", ()),
    "octaves": ("<f4", ()),
}  # fmt: skip
_RATIO = 0.88  # of the angle to a descriptor's nearest one to that to the next
_SAME_TURN, _SAME_SCALE = 20.0, 0.4  # degrees, octaves: matches that may be of one map
# A descriptor is 4 x 4 places of 8 orientations, relative to the keypoint's own. Mirroring turns
# the places across that orientation about, and every orientation round.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Keypoints of an image.

    Attributes:
        points: ``(n, 2)`` float32, x and y of pixels of the image that they were looked for in.
        descriptors: ``(n, 128)`` uint8, about 255 times values of unit length.
        turns: ``(n,)`` float32, degrees that each is turned clockwise.
        octaves: ``(n,)`` float32, logarithms (base 2) of their sizes.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    turns: NDArray[np.float32]
    octaves: NDArray[np.float32]

    def to_json(self) -> dict[str, str]:
        """As JSON can hold it."""
        return {
            name: b64encode(getattr(self, name).astype(kind).tobytes()).decode()
            for name, (kind, _) in _ARRAYS.items()
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, str]) -> Self:
        """What ``to_json`` gave."""
        return cls(
            **{
                name: np.frombuffer(b64decode(fields[name]), kind).reshape(-1, *shape)
                for name, (kind, shape) in _ARRAYS.items()
            }
        )

    def mirrored(self, width: int) -> Keypoints:
        """Those of the image mirrored left to right, which is ``width`` pixels wide."""
        points = self.points.copy()
        points[:, 0] = width - 1 - points[:, 0]
        return Keypoints(points, self.descriptors[:, MIRRORED], 180 - self.turns, self.octaves)


@dataclass(frozen=True, slots=True)
class Matches:
    """Keypoints of two images that look alike.

    Attributes:
        points: ``(m, 2)`` float32, of the first image.
        targets: ``(m, 2)`` float32, of the second one.
        votes: How many of them, at most, turn and scale the first image alike: more can hardly
            agree on a map.
    """

    points: NDArray[np.float32]
    targets: NDArray[np.float32]
    votes: int


def find_keypoints(gray: NDArray[np.uint8]) -> Keypoints:
    """Finds up to 450 keypoints of an ``(h, w)`` image.

    At 192 pixels on its longer side; of an image with little detail at up to 384.
    """
    found = _find_at(gray, _SIDE)
    if len(found.points) < _FEW and max(gray.shape) > _SIDE:
        return _find_at(gray, _LARGER_SIDE)
    return found


def _find_at(gray: NDArray[np.uint8], side: int) -> Keypoints:
    longer = max(gray.shape)
    factor = side / longer if longer > side else max(_LEAST_SIDE / longer, 1)
    scaled = gray
    if factor != 1:
        size = max(round(gray.shape[1] * factor), 1), max(round(gray.shape[0] * factor), 1)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        scaled = np.asarray(cv2.resize(gray, size, interpolation=how), np.uint8)
    detector = cv2.SIFT.create(
        nfeatures=_MOST, contrastThreshold=_CONTRAST, enable_precise_upscale=True
    )
    found, values = detector.detectAndCompute(scaled, None)
    points = np.array([one.pt for one in found], np.float32).reshape(-1, 2)
    back = np.array(gray.shape[::-1], np.float32) / np.array(scaled.shape[::-1], np.float32)
    if values is None:
        values = np.empty((0, 128), np.float32)
    roots = np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9))
    descriptors = np.round(_LEVELS * roots).astype(np.uint8)
    places = ((points + 0.5) * back - 0.5).astype(np.float32)
    turns = np.array([one.angle for one in found], np.float32)
    octaves = np.log2(np.array([one.size for one in found], np.float32) * back.max(initial=0))
    return Keypoints(places, descriptors, turns, octaves)


def match(first: Keypoints, second: Keypoints) -> Matches:
    """Keypoints that are each other's nearest, and clearly nearer than the next."""
    left, right = _alike(first, second)
    turn = second.turns[right] - first.turns[left]
    scale = second.octaves[right] - first.octaves[left]
    agree = np.abs((turn[:, None] - turn + 180) % 360 - 180) < _SAME_TURN
    agree &= np.abs(scale[:, None] - scale) < _SAME_SCALE
    votes = int(agree.sum(1).max(initial=0))
    return Matches(first.points[left], second.points[right], votes)


def _alike(first: Keypoints, second: Keypoints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Their numbers, ``(m,)`` of each image."""
    if len(first.points) < 2 or len(second.points) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    left, right = (one.descriptors.astype(np.float32) for one in (first, second))
    similar = left @ right.T / _LEVELS**2
    rows, best = np.arange(len(similar)), similar.argmax(1)
    mutual = np.flatnonzero(similar.argmax(0)[best] == rows)
    similar, best = similar[mutual], best[mutual]
    rows = np.arange(len(mutual))
    nearest = similar[rows, best]
    similar[rows, best] = -1
    angle, following = (np.arccos(np.clip(s, -1, 1)) for s in (nearest, similar.max(1, initial=-1)))
    clear = angle < _RATIO * following
    return mutual[clear], best[clear]
