"""Local features of an image: SIFT keypoints, and from these those of its mirror image.

Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004); the descriptors'
square root: Arandjelovic, Zisserman, "Three things everyone should know to improve object
retrieval" (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import MissingExtraError

try:
    import cv2
except ImportError as exc:  # pragma: no cover - one or the other
    raise MissingExtraError("opencv-python-headless", "verify", "verification on pixels") from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LocalFeatures", "find_features"]

_SIDE = 320  # of the longer side, pixels; smaller images stay as they are
_KEYPOINTS = 400
_CONTRAST = 0.02  # half of Lowe's: blurred and dark copies have little of it
# A descriptor is 4 x 4 places of 8 orientations, relative to the keypoint's own. Mirroring turns
# the places across that orientation about, and every orientation round.
_MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The features of an image that verification uses.

    Attributes:
        gray: ``(h, w)`` uint8, at most 320 pixels on the longer side.
        points: ``(n, 2)`` float32, x and y in ``gray``.
        descriptors: ``(n, 128)`` uint8, as SIFT makes them.
        size: Width and height of the image itself, pixels.
    """

    gray: NDArray[np.uint8]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]

    def unit_descriptors(self) -> NDArray[np.float32]:
        """Square roots of the descriptors, ``(n, 128)``, of unit length."""
        values = self.descriptors.astype(np.float32)
        total = np.maximum(values.sum(axis=1, keepdims=True), 1e-9)
        return np.asarray(np.sqrt(values / total))

    def mirrored(self) -> LocalFeatures:
        """Of the image mirrored left to right."""
        points = self.points.copy()
        points[:, 0] = self.gray.shape[1] - 1 - points[:, 0]
        gray = np.ascontiguousarray(self.gray[:, ::-1])
        return LocalFeatures(gray, points, self.descriptors[:, _MIRRORED], self.size)


def find_features(pixels: NDArray[np.uint8]) -> LocalFeatures:
    """Finds up to 400 keypoints.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
    """
    height, width = pixels.shape[:2]
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    factor = min(_SIDE / max(height, width), 1)
    if factor < 1:
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    detector = cv2.SIFT.create(nfeatures=_KEYPOINTS, contrastThreshold=_CONTRAST)
    keypoints, descriptors = detector.detectAndCompute(gray, None)
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 128), np.float32)
    return LocalFeatures(gray, points, descriptors.astype(np.uint8), (width, height))
