"""How many SIFT keypoints of two photographs agree on a homography, as such scripts are written.

OpenCV's SIFT, a brute-force match with Lowe's ratio test, and a homography by MAGSAC; the number
of its inliers is the score of a pair.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

KEYPOINTS = 1000
RATIO, PIXELS = 0.75, 5.0
LEAST_INLIERS = 10  # OpenCV's tutorial takes a pair with more matches for the same object

_Features = tuple[NDArray[np.float32], NDArray[np.float32] | None]


def inliers(files: Sequence[Path], pairs: Iterable[tuple[int, int]]) -> NDArray[np.float64]:
    """The inliers of each pair of files."""
    sift = cv2.SIFT_create(KEYPOINTS)
    known: dict[int, _Features] = {}

    def features(number: int) -> _Features:
        if number not in known:
            gray = cv2.imread(str(files[number]), cv2.IMREAD_GRAYSCALE)
            keypoints, descriptors = sift.detectAndCompute(gray, None)
            known[number] = cv2.KeyPoint_convert(keypoints), descriptors
        return known[number]

    return np.array([_agreeing(features(a), features(b)) for a, b in pairs], np.float64)


def _agreeing(first: _Features, second: _Features) -> int:
    places, descriptors = first
    others, other_descriptors = second
    if descriptors is None or other_descriptors is None or len(other_descriptors) < 2:
        return 0
    found = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors, other_descriptors, k=2)
    good = [near for near, next_near in found if near.distance < RATIO * next_near.distance]
    if len(good) < 4:
        return 0
    ends = places[[one.queryIdx for one in good]], others[[one.trainIdx for one in good]]
    _, mask = cv2.findHomography(*ends, cv2.USAC_MAGSAC, PIXELS)
    return 0 if mask is None else int(mask.sum())
