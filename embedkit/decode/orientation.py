"""How an image is turned: what its EXIF block or its XMP packet states, as Pillow reads it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.decode.exif import check_exif

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["header_orientation", "orientation", "upright"]

_ORIENTATION = 0x0112
_SHORT = 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Source: Exif 2.32, tag 0112h)."""


def orientation(image: Image.Image) -> int:
    """The orientation by which ``PIL.ImageOps.exif_transpose`` would turn an image.

    Returns:
        1 to 8; 1 (as it is) where none is stated, or what states it is damaged.
    """
    try:
        check_exif(_exif_block(image))
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF brings out nearly every error; it says nothing of the pixels
        return 1
    return int(value) if value in _TURNS else 1


def _exif_block(image: Image.Image) -> bytes:
    """The block that Pillow would read, without its prefix."""
    block = image.info.get("exif") or b""
    if not block and "Raw profile type exif" in image.info:  # hexadecimal, in a PNG's text
        block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return bytes(block).removeprefix(b"Exif\0\0")


def upright(image: Image.Image, turn: int) -> Image.Image:
    """The image with an orientation of 1 to 8 undone."""
    return image if turn == 1 else image.transpose(_TURNS[turn])


def header_orientation(exif: bytes, xmp: bytes) -> int:
    """What `orientation` gives for an image with this metadata, mostly without Pillow.

    Args:
        exif: The EXIF block with its ``Exif`` prefix; empty where there is none.
        xmp: The XMP packet; empty where there is none.
    """
    if not exif and b"tiff:Orientation" not in xmp:
        return 1
    stated = _plain_orientation(exif.removeprefix(b"Exif\0\0"))
    if stated is not None:
        return stated if stated in _TURNS else 1
    holder = Image.new("1", (1, 1))
    info: Mapping[str, bytes] = {"exif": exif, "xmp": xmp}
    holder.info.update({name: value for name, value in info.items() if value})
    return orientation(holder)


def _plain_orientation(tiff: bytes) -> int | None:
    """The orientation where it is stated in the usual way, one short number; None otherwise."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        entries = tiff[start + 2 : start + 2 + 12 * count]
        found = [
            (kind, number, value)
            for tag, kind, number, value in struct.iter_unpack(f"{order}HHIH2x", entries)
            if tag == _ORIENTATION
        ]
    except struct.error:
        return None
    if len(found) == 1 and found[0][:2] == (_SHORT, 1):
        return int(found[0][2])
    return None
