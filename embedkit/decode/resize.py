"""Antialiased scaling of uint8 images, in PyTorch or in NumPy: the same bits from both.

PyTorch takes a tenth of the time, but seconds to import, so NumPy scales small numbers of images.
Both give identical results.

Source: PyTorch's ``interpolate(antialias=True)`` on uint8 (``UpSampleKernel.cpp``), which computes
as Pillow's ``Resample.c`` does: first along the width, then along the height, with weights rounded
to fixed point and sums rounded to eight bits after each.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Filter", "Scale", "Scaler", "scale_in_numpy", "scale_in_torch"]

Filter = Literal["bilinear", "bicubic"]
Scale = Callable[["NDArray[np.uint8]", tuple[int, int], Filter], "NDArray[np.uint8]"]

# NumPy takes some 70 ms of a core a million pixels longer than PyTorch, whose import takes four
# seconds of one core while the others wait: runs of 200 to 480 photos were shorter with NumPy.
_NUMPY_PIXELS = 100_000_000
_NUMPY_IMAGES = 500  # of 200,000 pixels, as photos for a network of 224 pixels often are

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # reach of the filters, in pixels of the smaller image
CUBIC = -0.5  # the bicubic filter's free parameter, a
MAX_WEIGHT = 1 << 15  # the weights are int16
MAX_BITS = 22
_ROWS = 32  # of the result that are computed together
_BLOCK = 1 << 18  # values of the image that are computed with together: 2 MiB of float64


class Scaler:
    """Scales by NumPy until so much is scaled that importing PyTorch pays; by PyTorch from then on.

    Safe to call from many threads. As a context manager it keeps PyTorch to one thread a call, for
    callers that are as many as the cores, and gives it its threads back at the end.

    Args:
        images: How many are expected; for many PyTorch is taken from the first one on.
    """

    def __init__(self, images: int = 0) -> None:
        self._left = _NUMPY_PIXELS if images <= _NUMPY_IMAGES else 0
        self._lock = threading.Lock()
        self._import: threading.Thread | None = None
        self._is_open = False
        self._threads_before: int | None = None

    def __call__(
        self, pixels: NDArray[np.uint8], size: tuple[int, int], mode: Filter
    ) -> NDArray[np.uint8]:
        """Scales an image.

        Args:
            pixels: ``(H, W, 3) uint8``, C-contiguous, writable.
            size: (width, height) of the result, pixels.
            mode: The filter.

        Returns:
            ``(height, width, 3) uint8``; ``pixels`` itself where that is its size.
        """
        if (pixels.shape[1], pixels.shape[0]) == size:
            return pixels
        if self._is_for_numpy(pixels):
            return scale_in_numpy(pixels, size, mode)
        self._take_threads()
        return scale_in_torch(pixels, size, mode)

    def _is_for_numpy(self, pixels: NDArray[np.uint8]) -> bool:
        """PyTorch is imported meanwhile: no image waits for it, which its time limit would end."""
        with self._lock:
            if self._import is None:
                if "torch" in sys.modules:
                    return False
                self._left -= pixels.shape[0] * pixels.shape[1]
                if self._left < 0:
                    self._import = threading.Thread(target=self._take_threads)
                    self._import.start()
                return True
            return self._import.is_alive()

    def _take_threads(self) -> None:
        import torch

        with self._lock:
            if self._is_open and self._threads_before is None:
                self._threads_before = torch.get_num_threads()
                torch.set_num_threads(1)

    def __enter__(self) -> Self:
        self._is_open = True
        if "torch" in sys.modules or not self._left:
            self._take_threads()  # imports it now, rather than while the callers wait
        return self

    def __exit__(self, *exc: object) -> None:
        if self._import is not None:
            self._import.join()
        with self._lock:
            self._is_open = False
            if self._threads_before is not None:
                import torch

                torch.set_num_threads(self._threads_before)
                self._threads_before = None


def scale_in_torch(
    pixels: NDArray[np.uint8], size: tuple[int, int], mode: Filter
) -> NDArray[np.uint8]:
    """Scales as ``Scaler`` does, in PyTorch."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    import torch
    from torch.nn.functional import interpolate

    height, width = pixels.shape[:2]
    # With these strides, the first one too, PyTorch takes and gives the colours side by side; a
    # batch of one made by indexing counts as planar, which costs two transpositions.
    image = torch.from_numpy(pixels).as_strided(
        (1, 3, height, width), (3 * height * width, 1, 3 * width, 3)
    )
    scaled = interpolate(image, size=(size[1], size[0]), mode=mode, antialias=True)
    return scaled[0].permute(1, 2, 0).numpy()


def scale_in_numpy(
    pixels: NDArray[np.uint8], size: tuple[int, int], mode: Filter
) -> NDArray[np.uint8]:
    """Scales as ``Scaler`` does, in NumPy."""
    width, height = size
    return _scale_columns(_scale_columns(pixels, width, mode), height, mode)


def _scale_columns(pixels: NDArray[np.uint8], count: int, mode: Filter) -> NDArray[np.uint8]:
    """Scales ``(H, W, 3)`` along W and transposes: ``(count, H, 3) uint8``.

    The sums are of integers below 2 ** 53, so float64 has them exactly, whatever their order.
    """
    height, width, channels = pixels.shape
    if width == count:
        return np.ascontiguousarray(pixels.transpose(1, 0, 2))
    result = np.empty((count, height, channels), np.uint8)
    for first, start, weights in _weight_blocks(_filter_taps(width, count, mode), width):
        rows, reach = weights.shape
        step = max(1, _BLOCK // (reach * channels))
        for top in range(0, height, step):
            part = pixels[top : top + step, start : start + reach].transpose(1, 0, 2)
            sums = weights @ part.astype(np.float64).reshape(reach, -1)
            sums += 0.5
            np.floor(sums, out=sums)
            np.clip(sums, 0, 255, out=sums)
            result[first : first + rows, top : top + step] = sums.reshape(rows, -1, channels)
    return result


class _Taps(NamedTuple):
    """Which pixels make up each pixel of the result, and by how much.

    Attributes:
        start: ``(count,) int64``, the first pixel of each.
        weights: ``(count, K) float64``, whole numbers; zeros at the end of the shorter ones.
        bits: The weights of a pixel sum to about ``2 ** bits``.
    """

    start: NDArray[np.int64]
    weights: NDArray[np.float64]
    bits: int


def _filter_taps(length: int, count: int, mode: Filter) -> _Taps:
    """The weights for scaling a line of ``length`` pixels to ``count``."""
    ratio = length / count
    stretch = max(ratio, 1.0)
    support = SUPPORT[mode] * stretch
    center = ratio * (np.arange(count) + 0.5)
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((center + support + 0.5).astype(np.int64), length)
    place = np.arange(2 * int(np.ceil(support)) + 1)
    # In this order: the last bit of a weight decides how it is rounded.
    distance = np.abs((place + start[:, None] - center[:, None] + 0.5) * (1 / stretch))
    weights = _filter_values(distance, mode)
    weights[place >= (stop - start)[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    bits = _fixed_point_bits(float(weights.max()))
    scaled = weights * (1 << bits)
    return _Taps(start, np.trunc(scaled + np.copysign(0.5, scaled)), bits)


def _filter_values(x: NDArray[np.float64], mode: Filter) -> NDArray[np.float64]:
    """The filter at distances ``x >= 0``.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", with
    a = -0.5; the triangle for bilinear.
    """
    if mode == "bilinear":
        return np.where(x < 1, 1 - x, 0.0)
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _fixed_point_bits(largest: float) -> int:
    """As many bits as leave the largest weight an int16."""
    bits = 0
    while bits < MAX_BITS and int(0.5 + largest * (1 << (bits + 1))) < MAX_WEIGHT:
        bits += 1
    return bits


def _weight_blocks(taps: _Taps, length: int) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """The weights as small dense matrices.

    Yields:
        The first row of the result, the first pixel of the image, and the ``(rows, reach)`` weights
        of the pixels from there, which give values of 0 to 255.
    """
    place = np.arange(taps.weights.shape[1])
    for first in range(0, len(taps.start), _ROWS):
        starts = taps.start[first : first + _ROWS]
        weights = taps.weights[first : first + _ROWS]
        start = int(starts[0])
        dense = np.zeros((len(starts), int(starts[-1]) - start + len(place)))
        np.put_along_axis(dense, (starts - start)[:, None] + place, weights, axis=1)
        # Places beyond the image have no weight.
        yield first, start, np.ldexp(dense[:, : length - start], -taps.bits)
