"""Image containers read byte by byte, before Pillow sees them.

Pillow warns about, or reads on its own terms, some parts of a file that don't matter for its
pixels: a damaged EXIF block, animation chunks, compressed texts, canvas sizes.
`warnings.catch_warnings` is no remedy, since it isn't thread-safe. So the parts are left out here,
and what the limits need to know is read from the headers. Every ``prepare_*`` function takes the
encoded bytes and gives back a `Prepared`.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

__all__ = [
    "BadImageError",
    "Prepared",
    "exif_orientation",
    "prepare_avif",
    "prepare_gif",
    "prepare_png",
    "prepare_webp",
]


class BadImageError(ValueError):
    """The image can't be decoded; the message is the whole reason, one line."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Encoded bytes, ready for Pillow.

    Attributes:
        data: The bytes; the same object where nothing had to go.
        sizes: (width, height) in pixels of each buffer that decoding will allocate, as far as the
            header alone tells.
    """

    data: bytes
    sizes: tuple[tuple[int, int], ...] = ()


_PNG_HEAD = 8
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IDAT", b"IEND"))


def prepare_png(data: bytes) -> Prepared:
    """Keep the chunks that make the picture, with right checksums.

    A wrong checksum is fatal in a critical chunk and drops an ancillary one, as in libpng.

    Raises:
        BadImageError: If the file is cut, or a critical chunk is damaged.
    """
    kept: list[bytes] = [data[:_PNG_HEAD]]
    size = None
    for kind, chunk in _png_chunks(data):
        if kind not in _PNG_KEPT:
            continue
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            if kind[0:1].islower():
                continue
            raise BadImageError(f"damaged: wrong checksum in the {kind.decode()} chunk")
        if kind == b"IHDR":
            size = struct.unpack_from(">II", chunk, 8)
        kept.append(chunk)
    if size is None:
        raise BadImageError("damaged: no IHDR chunk")
    return Prepared(b"".join(kept), (size,))


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, whole chunk) of each chunk up to IEND."""
    chunks = []
    at = _PNG_HEAD
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BadImageError("truncated: the PNG ends before its IEND chunk")
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if not kind.isalpha():
            raise BadImageError(f"damaged: no PNG chunk at byte {at}")
        chunk = data[at : at + length + 12]
        if len(chunk) < length + 12:
            raise BadImageError(f"truncated: {len(chunk)} of {length + 12} bytes of a PNG chunk")
        chunks.append((kind, chunk))
        at += len(chunk)
    return chunks


_GIF_JUNK = re.compile(rb"[^!,;]*")
_GIF_DISPOSAL = 0b00011100


def prepare_gif(data: bytes) -> Prepared:
    """Widen the canvas to the first frame, and drop what happens to it afterwards.

    Raises:
        BadImageError: If there is no frame.
        struct.error: If the file is cut.
        IndexError: If the file is cut.
    """
    flags = data[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    patched = bytearray(data)
    while True:
        at = _skip_gif_junk(data, at)
        if data[at] == ord(","):
            break
        if data[at + 1] == 0xF9 and data[at + 2]:
            patched[at + 3] &= ~_GIF_DISPOSAL & 0xFF
        at = _skip_gif_blocks(data, at + 2)
    left, top, width, height = struct.unpack_from("<HHHH", data, at + 1)
    canvas = struct.unpack_from("<HH", data, 6)
    size = (max(canvas[0], left + width), max(canvas[1], top + height))
    if max(size) > 0xFFFF:
        raise BadImageError("damaged: the GIF's first frame lies outside any canvas")
    struct.pack_into("<HH", patched, 6, *size)
    return Prepared(bytes(patched), (size,))


def _skip_gif_junk(data: bytes, at: int) -> int:
    """Where the next block begins."""
    found = _GIF_JUNK.match(data, at)
    at = found.end() if found else at
    if data[at : at + 1] == b";":
        raise BadImageError("damaged: the GIF holds no frame")
    return at


def _skip_gif_blocks(data: bytes, at: int) -> int:
    """Behind a row of length-prefixed blocks."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def prepare_webp(data: bytes) -> Prepared:
    """Read the canvas size.

    Raises:
        BadImageError: If the header is damaged.
        struct.error: If the file is cut.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    (riff_length,) = struct.unpack_from("<I", data, 4)
    if riff_length + 8 > len(data):
        raise BadImageError(f"truncated: {len(data)} of {riff_length + 8} bytes")
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return Prepared(data, (((high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1),))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Prepared(data, (((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1),))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Prepared(data, ((width & 0x3FFF, height & 0x3FFF),))
    raise BadImageError(f"damaged: no WebP begins with the chunk {chunk!r}")


_AVIF_EXIF = re.compile(rb"(infe.{8}(?:..)?)Exif", re.DOTALL)


def prepare_avif(data: bytes) -> Prepared:
    """Hide the EXIF item: AVIF turns an image by its own boxes only.

    Pillow's plugin overrides the EXIF orientation by those boxes as well, but parses the block.
    """
    return Prepared(_AVIF_EXIF.sub(rb"\1skip", data))


_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


def exif_orientation(exif: bytes) -> int:
    """The EXIF orientation.

    Args:
        exif: The EXIF block, with or without its ``Exif`` prefix.

    Returns:
        1 to 8; 1 (as it is) where the block is empty, damaged or without a valid orientation.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        value = _ifd_orientation(tiff, order)
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def _ifd_orientation(tiff: bytes, order: str) -> int:
    """The orientation entry of the first directory; 1 without one."""
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
        if tag == _ORIENTATION and kind in (_SHORT, _LONG):
            value: int = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, at + 8)[
                0
            ]
            return value
    return 1
