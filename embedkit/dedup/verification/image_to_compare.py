"""What verification needs of an image: its pixels at some sizes, its keypoints, a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from embedkit.dedup.verification.keypoints import Keypoints, find_keypoints

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EVEN_OF_GRAPHICS", "ImageToCompare", "Thumbnail", "even_share", "shrunk", "shrunk_by"]

EVEN_OF_GRAPHICS = 0.35
"""Share of even areas from which on an image may be a graphic; few photographs have so many."""

_SIDE, _FINE_SIDE = 384, 768  # of the longer side, pixels
_THUMBNAIL, _THUMBNAIL_BLUR, _THUMBNAIL_WINDOW, _COARSE = 64, 0.8, (7, 7), 16
_THUMBNAIL_TEXTURE, _THUMBNAIL_AGREES = 2.6, 0.8


@dataclass(frozen=True)
class ImageToCompare:
    """What verification needs of an image.

    Attributes:
        gray: ``(h, w)`` uint8, at most 384 pixels on the longer side.
        colors: ``(h, w, 3)``, the same of red, green and blue.
        fine: As ``gray`` of a graphic (text, charts, codes), at most 768 pixels; None of a
            photograph.
        even: Share of its even areas, 0 to 1: large of graphics.
        size: Width and height of the image itself, pixels.
        known_keypoints: If they were found before.
    """

    gray: NDArray[np.uint8]
    colors: NDArray[np.uint8]
    fine: NDArray[np.uint8] | None
    even: float
    size: tuple[int, int]
    known_keypoints: Keypoints | None = None

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], known_keypoints: Keypoints | None = None) -> Self:
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
            np.asarray(colors, np.uint8),
            fine if even > EVEN_OF_GRAPHICS else None,
            even,
            (width, height),
            known_keypoints,
        )

    @cached_property
    def keypoints(self) -> Keypoints:
        """In ``gray``; looked for when they are first needed."""
        known = self.known_keypoints
        return find_keypoints(self.gray) if known is None else known

    @cached_property
    def thumbnail(self) -> Thumbnail:
        """For a first look at the whole image."""
        return Thumbnail.of(self.gray)

    @cached_property
    def ways(self) -> NDArray[np.float32]:
        """``(8, 256)``: ``thumbnail.coarse`` turned to the left by quarters; then mirrored, too."""
        coarse = self.thumbnail.coarse
        ways = [np.rot90(one, turns) for one in (coarse, coarse[:, ::-1]) for turns in range(4)]
        return np.stack([way.ravel() for way in ways])


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
