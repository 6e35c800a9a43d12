"""Reads headers before Pillow does: sizes for the limits, the number of frames, cut files.

Nothing is changed: every function takes the encoded bytes and gives back a `Header`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from embedkit.decode.failure import BadImageError

__all__ = [
    "Header",
    "check_bmp",
    "check_gif",
    "check_jpeg_2000",
    "check_png",
    "check_webp",
]


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says, as far as Pillow isn't asked for it.

    Attributes:
        sizes: (width, height) in pixels of buffers that decoding will allocate.
        frames: Frames or pages of the file; None where Pillow's plugin tells.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    frames: int | None = None


_PNG_HEAD = 8
_MAX_CHUNKS = 200_000  # a PNG of 256 MiB has 32,768 of the usual 8 KiB
_MAX_PROFILES = 16  # a PNG may have one; Pillow inflates up to 1 MiB of each


def check_png(data: bytes) -> Header:
    """Walk through the chunks up to IEND, since Pillow takes a PNG without one for whole.

    Raises:
        BadImageError: If the file is cut, or has more than 200,000 chunks or 16 colour profiles.
    """
    at, kind, count, profiles = _PNG_HEAD, b"", 0, 0
    while kind != b"IEND":
        count += 1
        if count > _MAX_CHUNKS:
            raise BadImageError(f"too many chunks in a PNG: the limit is {_MAX_CHUNKS:,}")
        if at + 12 > len(data):
            raise BadImageError("truncated: the PNG ends before its IEND chunk")
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        profiles += kind == b"iCCP"
        if profiles > _MAX_PROFILES:
            raise BadImageError(f"damaged: over {_MAX_PROFILES} colour profiles in a PNG")
        if not kind.isalpha():
            raise BadImageError(f"damaged: no PNG chunk at byte {at}")
        if at + length + 12 > len(data):
            raise BadImageError(
                f"truncated: {len(data) - at} of {length + 12} bytes of a PNG chunk"
            )
        at += length + 12
    return Header()


_GIF_JUNK = re.compile(rb"[^!,;]*")
_GIF_MAX_FRAMES = 65_535
_GIF_MAX_BLOCKS = 2_000_000  # of up to 255 bytes: a second of reading
_GIF_MAX_PREAMBLE = 2**20  # Pillow reads it byte by byte, or copies it with each block


def check_gif(data: bytes) -> Header:
    """Count the frames; the size is that of the canvas, widened to the first frame.

    Raises:
        BadImageError: If there is no frame, or it begins more than 1 MiB behind the header.
        struct.error: If the file is cut.
        IndexError: If the file is cut.
    """
    frames = _GifFrames(data)
    first = frames.next()
    if first > _GIF_MAX_PREAMBLE:
        raise BadImageError("damaged: over 1 MiB of comments before the first frame of a GIF")
    left, top, width, height = struct.unpack_from("<HHHH", data, first + 1)
    canvas = struct.unpack_from("<HH", data, 6)
    count = 1
    try:
        while count < _GIF_MAX_FRAMES and frames.next():
            count += 1
    except (BadImageError, IndexError):  # the end, or a later frame is damaged: counted up to it
        pass
    return Header(((max(canvas[0], left + width), max(canvas[1], top + height)),), count)


class _GifFrames:
    """Finds the image descriptors of a GIF, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 13 + _gif_table(data[10])
        self._blocks = 0

    def next(self) -> int:
        """Where the next image descriptor begins; it is skipped with its pixels."""
        data = self._data
        while True:
            junk = _GIF_JUNK.match(data, self._at)
            at = junk.end() if junk else self._at
            if data[at] == ord(";"):
                raise BadImageError("damaged: the GIF holds no frame")
            if data[at] == ord(","):
                self._skip(at + 11 + _gif_table(data[at + 9]))
                return at
            self._skip(at + 2)

    def _skip(self, at: int) -> None:
        """Go behind a row of length-prefixed blocks; a cut one ends the file."""
        data, end = self._data, len(self._data)
        while at < end and data[at]:
            at += 1 + data[at]
            self._blocks += 1
            if self._blocks > _GIF_MAX_BLOCKS:
                raise BadImageError("damaged: the GIF has too many blocks")
        self._at = at + 1


def _gif_table(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def check_webp(data: bytes) -> Header:
    """Read the canvas size.

    Raises:
        BadImageError: If the header is damaged, or there are more than 200,000 chunks.
        struct.error: If the file is cut.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    (riff_length,) = struct.unpack_from("<I", data, 4)
    if riff_length + 8 > len(data):
        raise BadImageError(f"truncated: {len(data)} of {riff_length + 8} bytes")
    _count_chunks(data)
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return Header((((high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1),))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header((((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1),))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(((width & 0x3FFF, height & 0x3FFF),))
    raise BadImageError(f"damaged: no WebP begins with the chunk {chunk!r}")


def _count_chunks(data: bytes) -> None:
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + length + length % 2
    raise BadImageError(f"too many chunks in a WebP: the limit is {_MAX_CHUNKS:,}")


_BMP_RLE = (1, 2)
_BMP_RLE_BYTES = 16 * 2**20
_BMP_RLE_PIXELS = 50_000_000


def check_bmp(data: bytes) -> Header:
    """Refuse a run-length coded bitmap so large that Pillow, which reads it in Python, takes long.

    Raises:
        BadImageError: If it has more than 16 MiB or 50 million pixels.
        struct.error: If the file is cut.
    """
    (header,) = struct.unpack_from("<I", data, 14)
    if header < 40:  # of OS/2: without compression
        return Header()
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in _BMP_RLE:
        if len(data) > _BMP_RLE_BYTES:
            raise BadImageError("too large: a run-length coded BMP may have 16 MiB")
        if abs(width * height) > _BMP_RLE_PIXELS:
            raise BadImageError("too many pixels: a run-length coded BMP may have 50 million")
    return Header()


def check_jpeg_2000(data: bytes) -> Header:
    """Find a cut file, of which OpenJPEG would decode what is there, and one that takes gigabytes.

    Raises:
        BadImageError: If no end marker follows the code stream, or a tile has more than 500,000
            code blocks.
        struct.error: If the header is cut.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or b"\xff\xd9" not in data[max(start, len(data) - 4096) :]:
        raise BadImageError("truncated: no end marker behind the JPEG 2000 code stream")
    if _code_blocks(data, start) > _MAX_CODE_BLOCKS:
        raise BadImageError(
            f"too many code blocks in a JPEG 2000: the limit is {_MAX_CODE_BLOCKS:,} per tile"
        )
    return Header(frames=1)


_MAX_CODE_BLOCKS = 500_000  # OpenJPEG takes 4 KB for each; 100 million pixels of RGB have 100,000
_COD = 0x52


def _code_blocks(data: bytes, start: int) -> float:
    """About how many code blocks a tile has, by the main header.

    Source: ITU-T T.800, annexes A.5.1, A.6.1 and B.
    """
    x1, y1, x0, y0, wide, high = struct.unpack_from(">6I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    pixels = min(wide, x1 - x0) * min(high, y1 - y0) * components
    at = start + 2
    while data[at] == 0xFF and data[at + 1] != 0x90:  # up to the first tile
        if data[at + 1] == _COD:
            style, levels, *size = struct.unpack_from(">4xB4xBBB", data, at)
            blocks = 0.0
            for level in range(levels + 1):
                exponents = [one % 16 + 2 for one in size]
                if style & 1:  # precincts bound them
                    both = data[at + 14 + level]
                    bounds = [max(one - (level > 0), 0) for one in (both & 15, both >> 4)]
                    exponents = list(map(min, exponents, bounds))
                share = pixels / 4 ** (levels - level) * (0.75 if level else 1)
                blocks += share / 2 ** sum(exponents)
            return blocks
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0.0
