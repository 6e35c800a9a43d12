"""From the planes of decoded JPEGs to network inputs and thumbnails, on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch

from embedkit.decode.gpu_jpeg import kernels
from embedkit.decode.gpu_jpeg.taps import filter_taps
from embedkit.decode.phash import THUMBNAIL_SIDE
from embedkit.decode.resize import SUPPORT, Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
    from embedkit.decode.gpu_jpeg.taps import Taps
    from embedkit.decode.preprocessing import Preprocessing

__all__ = ["ImageTable", "Scaled", "scaled_images"]

_ALIGN = 64  # bytes; of the rows of planes
_ROWS = 8  # of a block of pixels
_COLUMNS = 128
_FIELDS = 15
_CROP_ROWS, _THUMBNAIL_ROWS = 13, 14


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Where everything of some images lies in the device's memory.

    Attributes:
        jpegs: ``(n, 7) int64``, as `EncodedJpeg`.
        values: ``(n, 15) int64``: the offset and the pitch of the luma plane; width and height;
            the offsets of the two chroma planes and their pitch; the offset of the first stored
            pixel in the upright image's memory, the steps from it along a row and down a column;
            that image's offset, width and height; the offsets of the rows scaled for the crop and
            for the thumbnail. Offsets, pitches and steps in bytes.
        plane_bytes: Of all planes.
        rgb_bytes: Of all upright images.
        rows: Of all upright images.
    """

    jpegs: NDArray[np.int64]
    values: NDArray[np.int64]
    plane_bytes: int
    rgb_bytes: int
    rows: int

    @classmethod
    def of(cls, jpegs: Sequence[EncodedJpeg], side: int) -> ImageTable:
        """The table of some images, their planes and pixels one after the other.

        Args:
            jpegs: The images.
            side: Of the crop, pixels.
        """
        known = np.array(jpegs, np.int64).reshape(-1, 7)
        width, height, across, down, orientation = known.T[2:]
        chroma_width, chroma_height = -(-width >> across), -(-height >> down)
        pitch, chroma_pitch = (-(-one // _ALIGN) * _ALIGN for one in (width, chroma_width))
        luma, chroma = height * pitch, chroma_height * chroma_pitch
        planes = _begins(luma + 2 * chroma)
        turned = orientation >= 5
        upright = np.where(turned, [height, width], [width, height])
        rgb, rows = _begins(3 * width * height), _begins(upright[1])
        steps = _steps(orientation, width, height)
        values = np.stack([
            planes[:-1], pitch, width, height,
            planes[:-1] + luma, planes[:-1] + luma + chroma, chroma_pitch,
            rgb[:-1] + steps[0], steps[1], steps[2], rgb[:-1], *upright,
            rows[:-1] * side * 3, rows[:-1] * THUMBNAIL_SIDE * 3,
        ], axis=1)  # fmt: skip
        return cls(known, values, int(planes[-1]), int(rgb[-1]), int(rows[-1]))

    def planes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The offsets of the three planes of each image, and their pitches: ``(n, 3)`` each."""
        return self.values[:, [0, 4, 5]], self.values[:, [1, 6, 6]]


class Scaled(NamedTuple):
    """Images, ready for the backbone, and their thumbnails.

    Attributes:
        pixels: ``(n, S, S, 3) uint8``.
        thumbnails: ``(n, 32, 32, 3) uint8``.
    """

    pixels: torch.Tensor
    thumbnails: torch.Tensor


def scaled_images(planes: torch.Tensor, table: ImageTable, preprocessing: Preprocessing) -> Scaled:
    """Convert, turn, scale and crop, as ``fast.decode_jpeg``, ``scale_and_crop`` and ``thumbnail``.

    Args:
        planes: ``(table.plane_bytes,) uint8``, the decoded planes.
        table: Where they are. Images of one subsampling follow one another.
        preprocessing: One that ``fast.can_scale``.
    """
    device = planes.device
    images = torch.from_numpy(table.values).to(device)
    rgb = torch.empty(table.rgb_bytes, dtype=torch.uint8, device=device)
    for group in _groups(table.jpegs[:, 4:6]):
        across, down = table.jpegs[group.start, 4:6].tolist()
        largest = table.jpegs[group, 2:4].max(axis=0).tolist()
        grid = (len(images[group]), -(-largest[1] // _ROWS), -(-largest[0] // _COLUMNS))
        kernels.to_rgb[grid](
            planes, images[group], _FIELDS, rgb,
            across=across, down=down, rows=_ROWS, columns=_COLUMNS,
        )  # fmt: skip
    sizes = table.values[:, 11:13]
    resized = np.array([preprocessing.resized_size((w, h)) for w, h in sizes.tolist()])
    origins = np.array([preprocessing.crop_origin((w, h)) for w, h in resized.tolist()])
    mode, side = cast("Filter", preprocessing.interpolation), preprocessing.crop
    crops = _Scaling(sizes, resized, origins, side, mode, _CROP_ROWS)
    whole = np.full_like(sizes, THUMBNAIL_SIDE)
    small = _Scaling(sizes, whole, np.zeros_like(sizes), THUMBNAIL_SIDE, "bicubic", _THUMBNAIL_ROWS)
    return Scaled(*(one(rgb, images, table.rows) for one in (crops, small)))


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Scales images of all sizes to a part, ``side`` pixels square, of a size of their own.

    Attributes:
        sizes: ``(n, 2)``, width and height of the images.
        resized: ``(n, 2)``, what they are scaled to.
        origins: ``(n, 2)``, left and top of the part in that.
        side: Pixels of the part.
        mode: The filter.
        field: The column of the table that says where the rows go.
    """

    sizes: NDArray[np.int64]
    resized: NDArray[np.int64]
    origins: NDArray[np.int64]
    side: int
    mode: Filter
    field: int

    def __call__(self, rgb: torch.Tensor, images: torch.Tensor, rows: int) -> torch.Tensor:
        """``(n, side, side, 3) uint8``."""
        across, down = self._taps(0, rgb.device), self._taps(1, rgb.device)
        side, count = self.side, len(self.sizes)
        scaled = torch.empty(rows * side * 3, dtype=torch.uint8, device=rgb.device)
        result = torch.empty((count, side, side, 3), dtype=torch.uint8, device=rgb.device)
        kernels.scale_columns[count, -(-int(self.sizes[:, 1].max()) // _ROWS)](
            rgb, images, _FIELDS, self.field,
            across.starts, across.weights, across.weights.shape[1], across.bits, scaled,
            side=side, block=_power_of_two(side), rows=_ROWS,
        )  # fmt: skip
        kernels.scale_rows[count, side](
            scaled, images, _FIELDS, self.field,
            down.starts, down.weights, down.weights.shape[1], down.bits, result,
            side=side, block=_power_of_two(3 * side),
        )  # fmt: skip
        return result

    def _taps(self, axis: int, device: torch.device) -> Taps:
        lengths, counts, firsts = (one[:, axis] for one in (self.sizes, self.resized, self.origins))
        stretch = max(1.0, float((lengths / counts).max()))
        reach = 2 * math.ceil(SUPPORT[self.mode] * stretch) + 1
        numbers = torch.from_numpy(np.stack([lengths, counts, firsts])).to(device)
        exact = numbers[:2].double()
        return filter_taps(
            exact[0], exact[1], numbers[2], self.side, self.mode, (int(counts.max()), reach)
        )


def _begins(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each part begins if they follow one another, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


def _steps(
    orientation: NDArray[np.int64], width: NDArray[np.int64], height: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Where the first stored pixel goes in the upright image, and the steps from it; bytes.

    Source: Exif 2.32, tag 0112h.
    """
    turned = orientation >= 5
    row = np.where(turned, height, width)  # pixels of an upright row
    right, lower = row - 1, (np.where(turned, width, height) - 1) * row
    from_right = np.isin(orientation, [2, 3, 6, 7])
    from_below = np.isin(orientation, [3, 4, 7, 8])
    along, across = np.where(from_right, -1, 1), np.where(from_below, -row, row)
    first = np.where(from_right, right, 0) + np.where(from_below, lower, 0)
    return [3 * first, 3 * np.where(turned, across, along), 3 * np.where(turned, along, across)]


def _groups(kinds: NDArray[np.int64]) -> list[slice]:
    """The runs of equal rows."""
    changes = np.flatnonzero((kinds[1:] != kinds[:-1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(kinds)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
