"""Makes image records of what callers have: paths, bytes, PIL images and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from embedkit.decode.exact import upright_rgb
from embedkit.sources.naming import is_url
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.decode.policy import DecodePolicy

    ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

__all__ = ["is_in_memory", "one_or_many", "record_of"]

_BYTES = (bytes, bytearray, memoryview)


def is_in_memory(value: object) -> bool:
    """Whether a value is an image itself: encoded bytes, a PIL image, or an array of uint8."""
    return isinstance(value, (*_BYTES, Image.Image)) or (
        isinstance(value, np.ndarray) and value.dtype == np.uint8
    )


def one_or_many(images: Any) -> Iterator[Any]:
    """The images, one by one; a single one, which may be given without a list, by itself.

    An array ``(N, H, W, 3)`` is N images.

    Raises:
        ValueError: It is neither an image nor an iterable of images.
    """
    is_array = isinstance(images, np.ndarray) and images.dtype.kind in "biuf" and images.ndim != 4
    if is_array or isinstance(images, (str, os.PathLike, Image.Image, *_BYTES)):
        yield images
    elif isinstance(images, Iterable):
        yield from images
    else:
        raise ValueError(f"images must be an image or an iterable of images, not {_kind(images)}")


def record_of(image: ImageLike, number: int, policy: DecodePolicy) -> ImageRecord:
    """The record of one image.

    Pixels are encoded without loss, so that they take the same way as a file.

    Args:
        image: A path or URL, encoded bytes, a PIL image, or an array ``(H, W, 3)`` uint8, RGB.
        number: Its position, from 0; an image without a path is named by it.
        policy: The background that shines through a transparent PIL image.

    Raises:
        DecodeError: The PIL image can't be loaded or converted to RGB.
        ValueError: It is none of these.
    """
    if isinstance(image, str | os.PathLike):
        return _of_path(os.fsdecode(image))
    name = f"image {number}"
    if isinstance(image, _BYTES):
        data = bytes(image)
    elif isinstance(image, Image.Image):
        data = _ppm(np.asarray(upright_rgb(image, name, policy)))
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"{name} is an array of {image.shape} {image.dtype}: it must be (H, W, 3) uint8, "
                "RGB, from 0 to 255"
            )
        data = _ppm(image)
    else:
        raise ValueError(
            f"{name} is {_kind(image)}: it must be a path, bytes, a PIL image or an array"
        )
    return ImageRecord(name, name, "memory", nbytes=len(data), named=True, data=data)


def _of_path(name: str) -> ImageRecord:
    problem = None
    if not is_url(name) and Path(name).is_dir():
        problem = "is a folder; list its images, or embed it with embedkit.extract"
    return ImageRecord(name, name, problem=problem, named=True)


def _ppm(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


def _kind(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
