"""Traces that editing leaves in an image, by which the original of several copies is told.

An editor's output has been compressed twice, lost its camera's data, its colours or its finest
details, or got an even border or noise. None of these is proof, so they are weighed: the weights
were fitted on edited copies of photographs that were saved in several qualities.

Sources: traces of an earlier compression in the DCT coefficients: Lukas, Fridrich, "Estimation of
primary quantization matrix in double compressed JPEG images" (2003); of its block grid: Fan, de
Queiroz, "Identification of bitmap compression history" (2003).
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Traces", "find_traces", "judge"]

_SIDE = 320  # of the square in the middle that is looked at, pixels
_EVEN = 3.0  # levels: a standard deviation of a line that is even
_STEPS = np.arange(2, 41)
_CONCENTRATED = 0.15
_ENOUGH = 60
_USUAL_FINE, _USUAL_NOISE = -0.5, 1.0  # logarithms (base 2), of photographs
_TELLING = 0.1  # a part of the sum that is worth a word
_FIRST_BASIS = (0.5 * np.cos((2 * np.arange(8) + 1) * np.pi / 16)).astype(np.float32)
_CAMERA_TAGS = (271, 272, 36867)  # maker, model, time of the photograph


@dataclass(frozen=True, slots=True)
class Traces:
    """What is measured of one image.

    Attributes:
        camera: 1 if a camera's data are there.
        pixels: Logarithm (base 2) of the pixels inside an even border.
        border: Share of the image that is an even border.
        gray: 1 if it has no colours.
        recompressed: Logarithm (base 2) of an earlier, coarser compression's step over the file's.
        shifted: 1 if an earlier compression's block grid isn't the file's own.
        blurred: By how much the finest details are weaker than a photograph's, logarithm.
        noisy: By how much the noise is stronger than a photograph's, logarithm.
        clipped: Share of pixels that are black or white.
        step: Logarithm (base 2) of the file's own compression step.
        agreement: How well it agrees with the other members of its group, on average.
    """

    camera: float
    pixels: float
    border: float
    gray: float
    recompressed: float
    shifted: float
    blurred: float
    noisy: float
    clipped: float
    step: float
    agreement: float = 0.0

    def values(self) -> NDArray[np.float64]:
        """All of them, in order."""
        return np.array(list(asdict(self).values()), np.float64)


_WEIGHTS = {
    "camera": -1.5, "pixels": -1.43, "border": 5.2, "gray": 3.0, "recompressed": 0.96,
    "shifted": 3.5, "blurred": 6.3, "noisy": 1.28, "clipped": 1.6, "step": 0.67,
    "agreement": -10.0,
}  # fmt: skip
_WORDS = {
    "camera": "a camera's data", "pixels": "more pixels", "border": "no even border",
    "gray": "its colours", "recompressed": "compressed once", "shifted": "compressed once",
    "blurred": "finer details", "noisy": "less noise", "clipped": "more shades",
    "step": "finer compression", "agreement": "nearest to the others",
}  # fmt: skip


def judge(images: Sequence[Traces]) -> list[tuple[float, str]]:
    """How much each of several copies looks like an edit of the others, and what speaks for it."""
    if not images:
        return []
    table = np.array([image.values() for image in images])
    parts = (table - table.mean(axis=0)) * np.array([_WEIGHTS[f.name] for f in fields(Traces)])
    words = [_WORDS[field.name] for field in fields(Traces)]
    out = []
    for row in parts:
        best = [words[at] for at in np.argsort(row).tolist() if row[at] < -_TELLING]
        out.append((float(row.sum()), ", ".join(dict.fromkeys(best[:3]))))
    return out


def find_traces(data: bytes, pixels: NDArray[np.uint8]) -> Traces:
    """Measures one image.

    Args:
        data: The encoded image.
        pixels: ``(H, W, 3)`` uint8 RGB, decoded from it.
    """
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        camera = any(tags.get(tag) or tags.get_ifd(0x8769).get(tag) for tag in _CAMERA_TAGS)
        tables = getattr(image, "quantization", None)
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    left, top, right, bottom = _content(luma)
    inner = luma[top:bottom, left:right]
    middle = _middle(luma)
    own = float(tables[0][1]) if tables else 1.0
    earlier, is_shifted = _earlier_step(middle)
    fine, noise = _details(_middle(inner))
    return Traces(
        camera=float(camera),
        pixels=float(np.log2(max(inner.size, 1))),
        border=1 - inner.size / max(luma.size, 1),
        gray=float(np.ptp(pixels.astype(np.int16), axis=2).mean() < 1.0),
        recompressed=float(np.log2(max(earlier / own, 1))),
        shifted=float(is_shifted),
        blurred=max(_USUAL_FINE - fine, 0.0),
        noisy=max(noise - _USUAL_NOISE, 0.0),
        clipped=float(((luma < 2) | (luma > 253)).mean()),
        step=float(np.log2(own)),
    )


def _middle(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square in the middle, its corner on the block grid."""
    top, left = (max(side - _SIDE, 0) // 2 // 8 * 8 for side in luma.shape)
    return luma[top : top + _SIDE, left : left + _SIDE]


def _content(luma: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is inside an even border."""
    rows, columns = (np.flatnonzero(luma.std(axis=axis) > _EVEN) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0, 0, luma.shape[1], luma.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _earlier_step(luma: NDArray[np.float32]) -> tuple[float, bool]:
    """The step of an earlier compression: the largest that DCT coefficients are multiples of.

    Returns:
        The step, 1 if none is found, and whether its block grid isn't the file's own.
    """
    from scipy.ndimage import correlate1d

    best, shifted = 1, False
    for lines in (luma, luma.T):
        if min(lines.shape) < 64:
            continue
        sums = correlate1d(lines, np.full(8, 8**-0.5, np.float32), axis=0, origin=-4)
        found = correlate1d(sums, _FIRST_BASIS, axis=1, origin=-4)
        for down in range(8):
            for right in range(8):
                step = _step(found[down:-8:8, right:-8:8].ravel())
                if step > best or (step == best and not (down or right)):
                    best, shifted = step, bool(down or right)
    return float(best), shifted


def _step(coefficients: NDArray[np.float32]) -> int:
    """The largest step that coefficients are multiples of; 1 if there is none."""
    sizes = np.abs(coefficients)
    for step in _STEPS[::-1].tolist():
        large = sizes[sizes > step / 2]
        # Chance makes a mean of n cosines as large as 6 / sqrt(2n) in one of 10^9 cases.
        if len(large) >= _ENOUGH:
            least = max(_CONCENTRATED, 6 / np.sqrt(2 * len(large)))
            if np.cos(2 * np.pi / step * large).mean() > least:
                return int(step)
    return 1


def _details(luma: NDArray[np.float32]) -> tuple[float, float]:
    """The share of the finest details, and the noise, both as logarithms."""
    if min(luma.shape) < 16:
        return 0.0, 0.0
    bands = []
    at = luma
    for _ in range(2):
        height, width = (side // 2 * 2 for side in at.shape)
        block = at[:height, :width].reshape(height // 2, 2, width // 2, 2)
        coarse = block.mean(axis=(1, 3))
        bands.append(block - coarse[:, None, :, None])
        at = coarse
    fine, next_band = (float(band.std()) for band in bands)
    diagonal = (bands[0][:, 0, :, 0] + bands[0][:, 1, :, 1]) / 2
    noise = float(np.median(np.abs(diagonal)) / 0.6745)
    return float(np.log2((fine + 0.1) / (next_band + 0.1))), float(np.log2(noise + 0.1))
