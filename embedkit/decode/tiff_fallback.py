"""Decodes by tifffile and imagecodecs the TIFF layouts that Pillow reads wrongly or not at all."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from embedkit.decode.failure import BadImageError
from embedkit.decode.orientation import upright
from embedkit.decode.tiff import palette_of
from embedkit.decode.tiff_directory import Tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.decode.tiff_directory import Directory

__all__ = ["decode_with_tifffile"]

_MODES = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 8: "LAB"}
"""Pillow's mode of each photometric interpretation."""
_YCBCR = 6
_CODED_COLORS = (7, 33003, 33004, 33005, 34712, 34892, 50001, 50002, 52546)
"""Compressions that decode to RGB by themselves: JPEG, JPEG 2000, WebP, JPEG XL."""
_ALPHA = {1: "premultiplied", 2: "plain", 999: "plain"}
_MAX_SAMPLES = 8
_MISSING = "unsupported layout ({}): needs pip install 'embedkit[tiff]'"


def decode_with_tifffile(data: bytes, page: Directory, layout: str) -> Image.Image:
    """Decode the first page.

    Args:
        data: The encoded file.
        page: Its first directory, whose samples are unsigned integers of at most 16 bits.
        layout: What Pillow can't read, for the error.

    Returns:
        An upright image with 8 bits per sample, with its ICC profile.

    Raises:
        BadImageError: If tifffile isn't installed, or can't read the layout either.
    """
    try:
        import tifffile
    except ImportError as exc:
        raise BadImageError(_MISSING.format(layout)) from exc
    if page.first(Tag.SAMPLES, 1) > _MAX_SAMPLES:
        raise BadImageError(f"unsupported layout ({layout})")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as opened:
            first = opened.pages.first
            array = first.asarray(maxworkers=1)
            shaped = array.reshape(first.shaped)  # planes, depth, length, width, samples
    except (ValueError, NotImplementedError, RuntimeError, ImportError) as exc:
        if "imagecodecs" in str(exc):
            raise BadImageError(_MISSING.format(layout)) from exc
        raise BadImageError(f"unsupported layout or damaged ({layout}): {exc}") from exc
    if shaped.shape[1] != 1 or shaped.dtype.kind not in "bu":
        raise BadImageError(f"unsupported layout ({layout})")
    samples = np.moveaxis(shaped[:, 0], 0, -2).reshape(*shaped.shape[2:4], -1)
    image = _to_image(samples, page, layout)
    if Tag.ICC_PROFILE in page.blobs:
        image.info["icc_profile"] = page.blobs[Tag.ICC_PROFILE]
    return upright(image, page.first(Tag.ORIENTATION, 1))


def _to_image(
    samples: NDArray[np.unsignedinteger[Any]], page: Directory, layout: str
) -> Image.Image:
    """An image of ``(H, W, samples)``: the colours, and the alpha where there is one."""
    photometric = page.first(Tag.PHOTOMETRIC)
    if photometric == _YCBCR and page.first(Tag.COMPRESSION, 1) in _CODED_COLORS:
        mode = "RGB" if samples.shape[2] >= 3 else "L"
    else:
        mode = _MODES.get(photometric, "")
    bands = len(Image.new(mode, (1, 1)).getbands()) if mode else 0
    if not bands or samples.shape[2] < bands:
        raise BadImageError(f"unsupported layout ({layout})")
    bits = max(page.numbers.get(Tag.BITS, (1,)))
    if mode == "P":
        return _look_up(samples[..., 0], page)
    levels = _to_8_bits(samples, bits)
    if photometric == 0:
        levels[..., 0] = 255 - levels[..., 0]
    extra = page.numbers.get(Tag.EXTRA_SAMPLES, ())
    kind = _ALPHA.get(extra[0]) if extra and samples.shape[2] > bands else None
    if kind is None or mode not in ("L", "RGB"):
        return _from_levels(levels[..., :bands], mode)
    names = {"premultiplied": {"L": "La", "RGB": "RGBa"}, "plain": {"L": "LA", "RGB": "RGBA"}}
    return _from_levels(levels[..., : bands + 1], names[kind][mode])


def _from_levels(levels: NDArray[np.uint8], mode: str) -> Image.Image:
    # As the plugin of TIFF does: its raw mode of LAB knows that a* and b* are signed.
    size = (levels.shape[1], levels.shape[0])
    return Image.frombytes(mode, size, np.ascontiguousarray(levels).tobytes(), "raw", mode)


def _to_8_bits(samples: NDArray[np.unsignedinteger[Any]], bits: int) -> NDArray[np.uint8]:
    """The high eight bits; fewer bits are stretched."""
    wide = samples.astype(np.uint16)
    return (wide >> (bits - 8) if bits >= 8 else wide * 255 // (2**bits - 1)).astype(np.uint8)


def _look_up(indices: NDArray[np.unsignedinteger[Any]], page: Directory) -> Image.Image:
    """The colours of a palette image."""
    colors = palette_of(page)
    if indices.size and int(indices.max()) >= len(colors):
        raise BadImageError("damaged: the TIFF's palette has too few colours")
    return Image.fromarray(colors[indices])
