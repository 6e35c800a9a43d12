"""Converts every pixel format to 8-bit sRGB.

The rules are in docs/decoding.md. Order: samples to 8 bits, then the embedded ICC profile, then
transparency onto the background, which is stated in sRGB.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from embedkit.decode.failure import BadImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["srgb_transform", "to_rgb"]

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
"""The colour space that a profile must have to fit a Pillow mode."""
_MAX_PROFILE_BYTES = 4 * 2**20
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def to_rgb(
    image: Image.Image,
    background: tuple[int, int, int],
    *,
    gray_bits: int = 16,
    white_is_zero: bool = False,
) -> Image.Image:
    """Convert a loaded image to RGB.

    Args:
        image: Any mode that the supported formats decode to. It may be changed in place.
        background: sRGB colour that shines through where the image is transparent.
        gray_bits: For gray of more than 8 bits: how many of its bits are used.
        white_is_zero: For the same: whether 0 is white.

    Returns:
        An RGB image of the same size, with no metadata in ``info``.

    Raises:
        BadImageError: If the samples have no defined white (32-bit integers and floats).
    """
    profile = image.info.get("icc_profile")
    color, alpha = _split(image, gray_bits, white_is_zero)
    rgb = _to_srgb(color, profile)
    if alpha is not None:
        canvas = Image.new("RGB", rgb.size, background)
        canvas.paste(rgb, mask=alpha)
        rgb = canvas
    # A profile left here would be saved with a thumbnail, and applied a second time by a viewer.
    rgb.info = {}
    return rgb


def _split(
    image: Image.Image, gray_bits: int, white_is_zero: bool
) -> tuple[Image.Image, Image.Image | None]:
    """The colour (L, RGB, CMYK, LAB or YCbCr) and the alpha (L) of an image."""
    mode = image.mode
    if mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[mode])
    elif mode == "PA" or (mode == "P" and image.has_transparency_data):
        image = image.convert("RGBA")
    elif mode in ("P", "RGBX"):
        image = image.convert("RGB")
    elif mode == "1":
        image = _same_info(image.convert("L"), image)
    elif mode.startswith(("I", "F")):
        return _narrow(image, gray_bits, white_is_zero)
    if image.mode in ("LA", "RGBA"):
        # Pillow drops the alpha band here, it doesn't blend.
        return image.convert(image.mode[:-1]), image.getchannel("A")
    return image, _keyed_alpha(np.asarray(image), image) if "transparency" in image.info else None


def _same_info(image: Image.Image, origin: Image.Image) -> Image.Image:
    """Pillow's conversion adapts or drops the transparent colour: keep it as the file states it."""
    image.info = dict(origin.info)
    return image


def _narrow(
    image: Image.Image, gray_bits: int, white_is_zero: bool
) -> tuple[Image.Image, Image.Image | None]:
    """16-bit gray to 8 bits by dropping the low ones, as Pillow does for 16-bit RGB."""
    if image.mode == "F":
        raise BadImageError("32-bit float samples have no defined white: convert first")
    if image.mode == "I" and image.format != "PPM":
        raise BadImageError("signed or 32-bit integer samples have no defined white: convert first")
    samples = np.asarray(image)
    gray = (samples >> (gray_bits - 8)).astype(np.uint8)
    if white_is_zero:
        gray = 255 - gray
    alpha = _keyed_alpha(samples, image) if "transparency" in image.info else None
    return Image.fromarray(gray), alpha


def _keyed_alpha(samples: NDArray[np.generic], image: Image.Image) -> Image.Image | None:
    """Alpha of an image in which one colour stands for transparent; None if it isn't stated so."""
    key = np.asarray(image.info["transparency"])
    if key.dtype.kind != "i" or key.shape != samples.shape[2:]:
        return None
    hidden = samples == key
    if hidden.ndim == 3:
        hidden = hidden.all(axis=2)
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def _to_srgb(color: Image.Image, profile: object) -> Image.Image:
    """Apply a profile where there is one that fits and changes anything."""
    transform = srgb_transform(profile, color.mode)
    if transform is not None:
        return transform.apply_in_place(color) if color.mode == "RGB" else transform.apply(color)
    if color.mode == "LAB":
        return _lab_transform().apply(color)
    return color if color.mode == "RGB" else color.convert("RGB")


def srgb_transform(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns the colours of an embedded profile into sRGB.

    Args:
        profile: The ICC profile's bytes, or whatever else an image states as such.
        mode: Pillow's mode of the colours.

    Returns:
        The transform; None where there is nothing to turn.
    """
    if isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE_BYTES:
        return _transform(profile, mode)
    return None


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None if it doesn't fit, can't be read, or is sRGB itself.

    Little CMS works on a copy of its one-pixel cache in each call, so threads share a transform.
    """
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(opened, _srgb(), mode, "RGB")
        return None if _changes_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A damaged profile says nothing about the pixels, which are whole: they are taken as sRGB.
        return None


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB")


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a grid of colours comes out as it went in, to within one level of rounding."""
    if mode not in ("L", "RGB"):
        return False
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    bands = 1 if mode == "L" else 3
    grid = np.stack(np.meshgrid(*[levels] * bands, indexing="ij"), axis=-1).reshape(-1, 1, bands)
    probe = Image.fromarray(grid.squeeze(2) if bands == 1 else grid)
    moved = np.asarray(transform.apply(probe)).astype(np.int16) - grid
    return bool(np.abs(moved).max() <= 1)
