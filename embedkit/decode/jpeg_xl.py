"""Decodes JPEG XL by the plugin of the package pillow-jxl-plugin, after a look at the header.

The plugin decodes while it opens, so the size is read here first.

Source: ISO/IEC 18181-1, annex D (image header), 18181-2 (container).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from embedkit.decode.failure import BadImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode_jpeg_xl", "jpeg_xl_size"]

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)


def decode_jpeg_xl(data: bytes) -> Image.Image:
    """Decode a JPEG XL file whose size is within the limits.

    The decoder turns it by what the code stream says; by the standard EXIF has no say then. A JPEG
    that was packed without loss comes out as it was, with its EXIF block.

    Raises:
        BadImageError: If the extra isn't installed.
    """
    try:
        from pillow_jxl import JpegXLImagePlugin
    except ImportError as exc:
        raise BadImageError("JPEG XL needs pillow-jxl-plugin: pip install 'embedkit[jxl]'") from exc
    image = JpegXLImagePlugin.JXLImageFile(io.BytesIO(data))
    image.load()
    if not image.jpeg:
        image.info.pop("exif", None)
    found: Image.Image = image
    return found


class _Bits:
    """Reads whole numbers from bytes, lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise BadImageError("truncated: the JPEG XL header is cut")
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        return found


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, not turned.

    Raises:
        BadImageError: If the header is cut, or the file is an animation, of which the plugin
            doesn't give the first frame.
    """
    bits = _Bits(_codestream(data)[2:34])
    size = _size(bits)
    if not bits.take(1) and bits.take(1):  # not all of the metadata are defaults, some are extra
        bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            raise BadImageError("unsupported layout: JPEG XL with a preview")
        if bits.take(1):
            raise BadImageError("unsupported layout: animated JPEG XL")
    return size


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        if small:
            return 8 * (bits.take(5) + 1)
        return bits.take(_SIZE_BITS[bits.take(2)]) + 1

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    wide, high = _RATIOS[ratio - 1]
    return height * wide // high, height


def _codestream(data: bytes) -> bytes:
    """The beginning of the code stream, out of its container where there is one."""
    if data[:2] == b"\xff\x0a":
        return data[:64]
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = at + 8
        if length == 1:
            length, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if kind in (b"jxlc", b"jxlp"):
            body += 4 * (kind == b"jxlp")
            return data[body : body + 64]
        if length < 8:
            break
        at += length
    raise BadImageError("truncated: the JPEG XL file holds no code stream")
