"""Verification of a pair on its pixels: is one image made from the other, and how?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import cv2
import numpy as np

from embedkit.dedup.verification.agreement import Agreement, agreement_of, share_agreeing
from embedkit.dedup.verification.contradictions import fine_contradictions, share_moved
from embedkit.dedup.verification.equalize import equally_sharp, recolored
from embedkit.dedup.verification.laying import COARSE, Laid, laid_by, registered
from embedkit.dedup.verification.registration import (
    Registration,
    by_keypoints,
    by_place,
    corners_of,
    mapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from embedkit.dedup.verification.image_to_compare import ImageToCompare

__all__ = ["Evidence", "compare", "registrations"]

_CLEAR = 0.9  # of the windows agree: no other map need be tried
_BETTER = 0.02  # more of the windows agree, and of the levels follow
_UNSURE, _SURE = 0.25, 0.93  # of the windows agree: what doesn't is looked at
_HOPELESS_COARSE, _HOPELESS = 0.25, 0.22  # of the windows agree at best: no closer look


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that one image is made from the other.

    Attributes:
        agreement: How far the overlap of both agrees.
        fine: Of graphics: the share of fine details in which both show something else, 0 to 1; 0
            of photographs.
        spot: Of graphics: the largest spot of these details, as a share of the image; 0 of
            photographs.
        moved: Share of windows that agree a few pixels off, but not in their place, 0 to 1.
        inliers: Places at which keypoints agree on the map; 0 if it isn't by keypoints.
        elsewhere: Keypoints of both that match, but not by the map.
        covered: Share of the one image that the other covers, the larger of both, 0 to 1.
        shared: Share of the one image that the other covers by the map on which most keypoints
            agree, the smaller of both, 0 to 1; 0 if there is none.
        matched: Places at which keypoints agree on that map.
        spread: Share of the 16 parts of the second image in which they do, 0 to 1.
        how: How the second image was made from the first: ``crop`` (left, top, right, bottom of
            what is left, in shares of the first image), ``flip``, ``rotation`` (degrees,
            clockwise), ``scale`` (the second's pixels per pixel of the first).
    """

    agreement: Agreement
    fine: float
    spot: float
    moved: float
    inliers: int
    elsewhere: int
    covered: float
    how: Mapping[str, Any]
    shared: float = 0.0
    matched: int = 0
    spread: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """What ``to_json`` gave.

        Raises:
            KeyError: A field is missing.
            TypeError: It is something else.
        """
        return cls(**{**fields, "agreement": Agreement(**fields["agreement"])})


def registrations(first: ImageToCompare, second: ImageToCompare) -> Iterator[Registration]:
    """Maps that may lay the first image over the second, the cheapest first."""
    yield from by_place(first, second)
    yield from by_keypoints(first, second)


def compare(first: ImageToCompare, second: ImageToCompare) -> Evidence:
    """Lays the first image over the second one, mirrored or not, and compares them."""
    best: tuple[float, Registration, _Look] | None = None
    most, highest = Registration(np.eye(3), flip=False), 0.0
    for found in registrations(first, second):
        if found.inliers > most.inliers:
            most = found
        look = _first_look(first, second, found)
        highest = max(highest, look.share)
        if look.laid is None:
            continue
        trust = min(1.0, 0.3 + found.inliers / 20) if found.inliers else 1.0
        if best is None or look.share * trust > best[0]:
            best = look.share * trust, found, look
        if look.share > _CLEAR:
            break
    if best is None:
        return Evidence(
            Agreement(agreeing=highest, windows=1),
            0.0, 0.0, 0.0, most.inliers, most.elsewhere, 0.0, {},
            *_in_common(first, second, most),
        )  # fmt: skip
    _, found, look = best
    laid, coarse = cast("Laid", look.laid), cast("Laid", look.coarse)
    agreement = _best_agreement(first, second, found, laid, coarse)
    fine, spot = fine_contradictions(first, second, found)
    return Evidence(
        agreement,
        fine,
        spot,
        share_moved(laid) if _UNSURE < agreement.agreeing < _SURE else 0.0,
        found.inliers,
        found.elsewhere,
        max(_covered(first, second, found.matrix)),
        _describe(first, second, found),
        *_in_common(first, second, most),
    )


class _Look(NamedTuple):
    """A first look at two images that a map lays over each other.

    Attributes:
        share: Of windows that agree.
        laid: How they lie; None if it is hopeless.
        coarse: The same, coarsely.
    """

    share: float = 0.0
    laid: Laid | None = None
    coarse: Laid | None = None


def _first_look(first: ImageToCompare, second: ImageToCompare, found: Registration) -> _Look:
    coarse = registered(first, second, found, COARSE)
    if coarse is None:
        return _Look()
    share = share_agreeing(coarse, of_plain=1.0)
    if share < _HOPELESS_COARSE:
        return _Look(share)
    laid = registered(first, second, found)
    if laid is None:
        return _Look()
    share = share_agreeing(laid)
    if share < _CLEAR:
        laid = equally_sharp(laid)
        share = max(share, share_agreeing(laid))
    return _Look(share, laid, coarse) if share >= _HOPELESS else _Look(share)


def _in_common(
    first: ImageToCompare, second: ImageToCompare, most: Registration
) -> tuple[float, int, float]:
    """What both show by their keypoints: ``shared``, ``matched`` and ``spread`` of `Evidence`."""
    if not most.inliers:
        return 0.0, 0, 0.0
    return min(_covered(first, second, most.matrix)), most.inliers, most.spread


def _best_agreement(
    first: ImageToCompare,
    second: ImageToCompare,
    found: Registration,
    laid: Laid,
    coarse: Laid,
) -> Agreement:
    """Of the images in gray, or in the plane in which they agree best where colours were turned."""
    best = agreement_of(laid)
    if best.agreeing > _CLEAR:
        return best
    for planes in recolored(first, second, found, coarse, _BETTER):
        other = laid_by(*planes, found)
        if other is None:
            continue
        agreement = agreement_of(equally_sharp(other))
        if agreement.agreeing * agreement.tones > best.agreeing * best.tones + _BETTER:
            best = agreement
    return best


def _covered(
    first: ImageToCompare, second: ImageToCompare, matrix: NDArray[np.float64]
) -> tuple[float, float]:
    """The shares of both images in their overlap."""
    places = mapped(matrix, corners_of(first.gray.shape)).astype(np.float32)
    corners = corners_of(second.gray.shape).astype(np.float32)
    area, _ = cv2.intersectConvexConvex(places, corners)
    return min(area / abs(cv2.contourArea(places)), 1.0), min(area / second.gray.size, 1.0)


def _describe(first: ImageToCompare, second: ImageToCompare, found: Registration) -> dict[str, Any]:
    """The map in terms of an edit."""
    size = np.array(first.gray.shape[::-1], np.float64)
    back = np.asarray(np.linalg.inv(found.matrix), np.float64)
    seen = mapped(back, corners_of(second.gray.shape))
    if found.flip:
        seen[:, 0] = size[0] - seen[:, 0]
    low, high = (np.clip(edge / size, 0, 1) for edge in (seen.min(0), seen.max(0)))
    matrix = found.matrix
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    scale *= max(second.size) / max(second.gray.shape) / (max(first.size) / max(first.gray.shape))
    angle = np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    return {
        "crop": [round(float(edge), 3) for edge in (*low, *high)],
        "flip": found.flip,
        "rotation": round(float(angle), 1),
        "scale": round(float(scale), 3),
    }
