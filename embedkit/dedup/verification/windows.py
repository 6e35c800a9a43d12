"""Two images compared window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.verification.laying import Laid

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = [
    "AGREES",
    "FEWEST_WINDOWS",
    "TEXTURE",
    "WINDOW",
    "Windows",
    "agreeing_windows",
    "box",
    "largest_spot",
]

AGREES = 0.9
"""Correlation from which on two windows agree."""

TEXTURE = 6.0
"""Variance (levels squared) from which on a window has texture."""

FEWEST_WINDOWS = 20
"""With texture: fewer say nothing."""

WINDOW = 11
"""Side of a window, pixels."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Statistics of the window around each pixel, ``(h, w)`` each."""

    mean: Values
    other_mean: Values
    variance: Values
    other_variance: Values
    correlation: Values

    @classmethod
    def of(cls, first: Values, second: Values, side: int) -> Self:
        """Of two ``(h, w)`` images, in windows of ``side`` pixels."""
        mean, other = box(first, side), box(second, side)
        variance = np.maximum(box(first * first, side) - mean * mean, 0)
        other_variance = np.maximum(box(second * second, side) - other * other, 0)
        product = box(first * second, side) - mean * other
        correlation = product / np.sqrt((variance + 1) * (other_variance + 1))
        return cls(mean, other, variance, other_variance, correlation)

    def with_texture(self, least: float) -> Mask:
        """Where one of the windows has a variance above ``least``, levels squared."""
        return np.maximum(self.variance, self.other_variance) > least


def agreeing_windows(laid: Laid) -> Mask:
    """Where windows with texture agree, ``(h, w)``."""
    windows = Windows.of(laid.first, laid.second, WINDOW)
    return windows.with_texture(TEXTURE) & (windows.correlation > AGREES)


def box(values: Values, side: int) -> Values:
    """The mean of the square of ``side`` pixels around each one."""
    return np.asarray(cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REPLICATE))


def largest_spot(mask: NDArray[np.bool_]) -> tuple[int, str]:
    """The pixels of the largest connected spot, and its place in words."""
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return 0, ""
    at = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y = centres[at] / (mask.shape[1], mask.shape[0])
    return int(stats[at, cv2.CC_STAT_AREA]), f"{x:.0%} across and {y:.0%} down"
