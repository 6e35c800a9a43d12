"""Reads headers before Pillow does: sizes for the limits, the number of frames, cut files.

Nothing is changed: every function takes the encoded bytes and gives back a `Header`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from embedkit.decode.failure import BadImageError

__all__ = [
    "Header",
    "check_gif",
    "check_jpeg",
    "check_jpeg_2000",
    "check_png",
    "check_ppm",
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


def check_png(data: bytes) -> Header:
    """Walk through the chunks up to IEND, since Pillow takes a PNG without one for whole.

    Raises:
        BadImageError: If the file is cut.
    """
    at, kind = _PNG_HEAD, b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BadImageError("truncated: the PNG ends before its IEND chunk")
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
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
_GIF_MAX_BLOCKS = 10_000_000  # of up to 255 bytes: seconds of reading


def check_gif(data: bytes) -> Header:
    """Count the frames; the size is that of the canvas, widened to the first frame.

    Raises:
        BadImageError: If there is no frame.
        struct.error: If the file is cut.
        IndexError: If the file is cut.
    """
    frames = _GifFrames(data)
    left, top, width, height = struct.unpack_from("<HHHH", data, frames.next() + 1)
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
        return Header((((high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1),))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header((((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1),))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(((width & 0x3FFF, height & 0x3FFF),))
    raise BadImageError(f"damaged: no WebP begins with the chunk {chunk!r}")


_MAX_SCANS = 100  # an encoder writes about ten; each is a pass over the whole image


def check_jpeg(data: bytes) -> Header:
    """Refuse a JPEG of so many scans that decoding would take minutes.

    Within the pixels of a scan a marker's first byte is always followed by another one than here,
    so the count is at most too high by what the metadata hold.

    Raises:
        BadImageError: If there are more than 100.
    """
    pixels = np.frombuffer(data, np.uint8)
    scans = np.count_nonzero((pixels[:-1] == 0xFF) & (pixels[1:] == 0xDA))
    if scans > _MAX_SCANS:
        raise BadImageError(f"too many scans in a JPEG: {scans:,}, the limit is {_MAX_SCANS}")
    return Header(frames=1)  # what follows in an MPO is the same picture again, or its depth


_PPM_NUMBER = rb"(?:(?:\s|#[^\r\n]*[\r\n])+\d+)"
_PPM_HEADER = re.compile(rb"P(?:[14]%b{2}|[2356]%b{3})\s" % (_PPM_NUMBER, _PPM_NUMBER))
_PPM_MAX_HEADER = 64 * 1024
_PPM_MAX_COMMENTS = 1000  # among the pixels of a plain one


def check_ppm(data: bytes) -> Header:
    """Refuse endless comments, which Pillow reads byte by byte or slowly.

    Raises:
        BadImageError: If the header doesn't end within 64 KiB, or pixels written as text have
            more than 1,000 comments between them.
    """
    if len(data) > _PPM_MAX_HEADER and not _PPM_HEADER.match(data[:_PPM_MAX_HEADER]):
        raise BadImageError("damaged: the PPM's header doesn't end within 64 KiB")
    if data[1:2] in b"123" and data.count(b"#") > _PPM_MAX_COMMENTS:
        raise BadImageError(f"damaged: over {_PPM_MAX_COMMENTS:,} comments in a PPM")
    return Header()


def check_jpeg_2000(data: bytes) -> Header:
    """Find a cut file, of which OpenJPEG would decode what is there.

    Raises:
        BadImageError: If no end marker follows the code stream.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or b"\xff\xd9" not in data[max(start, len(data) - 4096) :]:
        raise BadImageError("truncated: no end marker behind the JPEG 2000 code stream")
    return Header(frames=1)
