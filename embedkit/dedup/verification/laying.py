"""Lays one image over another one, by a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from embedkit.dedup.verification.image_to_compare import shrunk, shrunk_by
from embedkit.dedup.verification.registration import corners_of, mapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.verification.image_to_compare import ImageToCompare
    from embedkit.dedup.verification.registration import Bend, Registration

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["COARSE", "Laid", "blurred", "laid_by", "lay", "registered", "scaling", "turned"]

COARSE = 96
"""Longer side of a first look, pixels."""

_WORK = 192  # longer side of what is compared, pixels
_LEAST_SIDE = 6  # of an overlap, pixels
_LEAST_VARIANCE = 0.027  # pixels squared: of a blur that shrinking by a twentieth needs


@dataclass(frozen=True, slots=True)
class Laid:
    """Two images in one frame.

    Attributes:
        first: ``(h, w)`` float32 levels.
        second: ``(h, w)`` float32 levels.
        inside: ``(h, w)`` where both are.
    """

    first: Values
    second: Values
    inside: Mask


def registered(
    first: ImageToCompare, second: ImageToCompare, found: Registration, side: int = _WORK
) -> Laid | None:
    """The two images in gray laid over each other by a registration, at most ``side`` pixels."""
    return laid_by(first.gray, second.gray, found, side)


def laid_by(
    first: NDArray[np.uint8], second: NDArray[np.uint8], found: Registration, side: int = _WORK
) -> Laid | None:
    """Two planes of the images, ``(h, w)`` as ``gray`` is, laid over each other by a map."""
    own = turned(first, found)
    if found.bend is None:
        return lay(own, second, found.matrix, side)
    if found.bend.to_first:
        return _lay_bent(own, second, found.bend, side)
    laid = _lay_bent(second, own, found.bend, side)
    return Laid(laid.second, laid.first, laid.inside)


def lay(
    first: NDArray[np.uint8], second: NDArray[np.uint8], matrix: NDArray[np.float64], side: int
) -> Laid | None:
    """Lays two gray images over each other, in the frame of the coarser one.

    Args:
        first: ``(h, w)``.
        second: ``(h, w)``.
        matrix: Homography from the first to the second.
        side: Longer side of the frame, pixels, at most.

    Returns:
        The overlap; None if there is next to none.
    """
    centre = np.array([first.shape[1] / 2, first.shape[0] / 2, 1.0])
    at = matrix @ centre
    local = (matrix[:2, :2] - np.outer(at[:2] / at[2], matrix[2, :2])) / at[2]
    scale = float(np.sqrt(abs(np.linalg.det(local))))
    if scale <= 1:
        return _lay_finer(first, second, matrix, scale, side)
    back = np.asarray(np.linalg.inv(matrix), np.float64)
    laid = _lay_finer(second, first, back, 1 / scale, side)
    return None if laid is None else Laid(laid.second, laid.first, laid.inside)


def _lay_finer(
    finer: NDArray[np.uint8],
    coarser: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    scale: float,
    side: int,
) -> Laid | None:
    """Lays the finer image over the coarser one, which it is mapped to ``scale`` times as large."""
    places = mapped(matrix, corners_of(finer.shape))
    low = np.maximum(places.min(0), 0)
    span = np.minimum(places.max(0), coarser.shape[1::-1]) - low
    if span.min() < _LEAST_SIDE:
        return None
    factor = min(1.0, side / span.max())
    width, height = (max(round(float(edge) * factor), _LEAST_SIDE) for edge in span)
    shift = (factor - 1) / 2 - low * factor
    frame = np.array([[factor, 0, shift[0]], [0, factor, shift[1]], [0, 0, 1]])
    mask = np.ones(finer.shape[:2], np.uint8)
    inside = cv2.warpPerspective(mask, frame @ matrix, (width, height), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)
    return Laid(
        _warped(finer, frame @ matrix, (width, height), scale * factor),
        _warped(coarser, frame, (width, height), factor),
        np.asarray(inside > 0),
    )


def _warped(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int], scale: float
) -> Values:
    """An image mapped, shrunk and blurred before so that no detail is skipped over."""
    variance = (1 / scale**2 - 1) / 4  # of the blur, pixels squared
    if halvings := max(int(-np.log2(scale)), 0):
        small = shrunk_by(image, 0.5**halvings)
        matrix = matrix @ scaling(image, small)
        image = small
        variance = (variance - (4**halvings - 1) / 12) / 4**halvings  # shrinking blurs, too
    if variance > _LEAST_VARIANCE:
        image = np.asarray(blurred(image, np.sqrt(variance)))
    out = cv2.warpPerspective(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _lay_bent(bent: NDArray[np.uint8], frame: NDArray[np.uint8], bend: Bend, side: int) -> Laid:
    """Lays an image over another one, in whose frame a bend gives the places of the first."""
    small = shrunk(frame, side)
    places = np.stack(np.meshgrid(*(np.arange(side) for side in small.shape[1::-1])), -1)
    scale = np.array(frame.shape[1::-1]) / small.shape[1::-1]
    there = bend.mapped((places + 0.5) * scale - 0.5).astype(np.float32)
    step = float(np.linalg.norm(np.diff(there, axis=1), axis=-1).mean())
    if step > 1 / 0.95:
        bent = np.asarray(blurred(bent, 0.5 * np.sqrt(step**2 - 1)))
    laid = cv2.remap(bent, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((there >= 0) & (there <= np.array(bent.shape[1::-1]) - 1)).all(-1)
    return Laid(laid.astype(np.float32), small.astype(np.float32), np.asarray(inside))


def turned(gray: NDArray[np.uint8], found: Registration) -> NDArray[np.uint8]:
    """The first image, mirrored if the map asks for it."""
    return np.ascontiguousarray(gray[:, ::-1]) if found.flip else gray


def scaling(to: NDArray[np.uint8], of: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The map of pixel centres from an image to the same one of another size, ``(3, 3)``."""
    across, down = to.shape[1] / of.shape[1], to.shape[0] / of.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def blurred(image: NDArray[np.generic], sigma: float) -> Values:
    """An image blurred by a Gaussian of ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))
