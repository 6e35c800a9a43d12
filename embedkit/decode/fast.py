"""Decodes ordinary JPEGs in about half of Pillow's time; pixels differ by at most one level.

libjpeg-turbo decodes straight into an array (simplejpeg), and PyTorch's vectorised uint8 kernel,
or its like in NumPy, scales it with the same antialiased filter as Pillow's. Headers, orientation,
profiles and limits are Pillow's and ``decode_image``'s own, so there is one policy. Whatever is out
of the ordinary (gray, CMYK, a damaged stream, another filter) is left to the exact way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

import numpy as np
import simplejpeg
from PIL import Image

from embedkit.decode.exact import read_jpeg_header
from embedkit.decode.phash import THUMBNAIL_SIDE
from embedkit.decode.resize import Filter, scale_in_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.decode.resize import Scale

__all__ = ["can_scale", "decode_jpeg", "scale_and_crop", "thumbnail"]


def can_scale(preprocessing: Preprocessing) -> bool:
    """Whether there is the filter, and the crop needs no padding."""
    return (
        preprocessing.interpolation in get_args(Filter)
        and preprocessing.crop <= preprocessing.resize
    )


def decode_jpeg(data: bytes, image_id: str, policy: DecodePolicy) -> NDArray[np.uint8] | None:
    """Decodes an ordinary JPEG, under the policy of ``decode_image``.

    Args:
        data: The encoded file.
        image_id: Named in the error.
        policy: Limits.

    Returns:
        ``(H, W, 3) uint8`` sRGB, upright, C-contiguous and writable; None for all that is left to
        the exact way, damage included.

    Raises:
        DecodeError: The header is damaged, or the image is too large.
    """
    header = read_jpeg_header(data, image_id, policy)
    if header is None:
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:  # the exact way tells what is wrong, or that nothing is
        return None
    if header.to_srgb is not None:
        pixels = np.array(header.to_srgb.apply_in_place(Image.fromarray(pixels)))
    return _upright(pixels, header.orientation)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes an EXIF orientation (Source: Exif 2.32, tag 0112h)."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def scale_and_crop(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, scale: Scale = scale_in_torch
) -> NDArray[np.uint8]:
    """What ``Preprocessing.apply`` gives, to within one level.

    Args:
        pixels: ``(H, W, 3) uint8``, upright, C-contiguous, writable.
        preprocessing: One that ``can_scale``.
        scale: Scales.

    Returns:
        ``(crop, crop, 3) uint8``, a view.
    """
    height, width = pixels.shape[:2]
    size = preprocessing.resized_size((width, height))
    scaled = scale(pixels, size, cast(Filter, preprocessing.interpolation))
    left, top = preprocessing.crop_origin((scaled.shape[1], scaled.shape[0]))
    return scaled[top : top + preprocessing.crop, left : left + preprocessing.crop]


def thumbnail(pixels: NDArray[np.uint8], scale: Scale = scale_in_torch) -> NDArray[np.uint8]:
    """The ``(32, 32, 3) uint8`` thumbnail that the perceptual hash is made of."""
    return scale(pixels, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), "bicubic")
