"""Parses the header of an ordinary JPEG, about ten times as fast as Pillow, and bounds its length.

Python holds its global lock here, so the time counts for all threads together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from embedkit.decode.checks import Header
from embedkit.decode.exif import check_exif
from embedkit.decode.failure import BadImageError

__all__ = ["MAX_SCANS", "JpegParts", "check_jpeg", "scan_jpeg"]

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = (_BASELINE, _EXTENDED, _PROGRESSIVE)
_HUFFMAN, _SCAN, _QUANTIZATION, _RESTART, _COMMENT = 0xC4, 0xDA, 0xDB, 0xDD, 0xFE
_PLAIN = (_HUFFMAN, _RESTART, _COMMENT)
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF
_JFIF, _EXIF, _ICC, _ADOBE = b"JFIF", b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_COMPONENTS = 3
_THREE_COMPONENTS = 17  # bytes of such a frame header
_MAX_SEGMENTS = 10_000  # an ICC profile is spread over at most 255
_MAX_METADATA = 32 * 2**20  # Pillow copies what was there before with each segment
_MAX_JUNK = 64 * 1024  # bytes between segments, which Pillow reads one by one
_JUNK = re.compile(rb"(?:[^\xff]|\xff(?=[\x00\xff]))*")
MAX_SCANS = 100
"""Scans of a JPEG; an encoder writes about ten, and each is a pass over the whole image."""
_ALONE = frozenset((0x01, *range(0xD0, 0xDA)))  # markers without a segment


@dataclass(slots=True)
class JpegParts:
    """What a JPEG of three components of 8 bits says before its pixels.

    Attributes:
        size: (width, height), pixels, not turned by EXIF.
        exif: The EXIF block with its ``Exif`` prefix, empty where there is none.
        xmp: The XMP packet, empty where there is none.
        profile: The ICC profile; None where there is none.
        is_baseline: Whether they are coded in the simplest way, which all decoders know.
        has_many_scans: Whether the pixels may be spread over several scans.
    """

    size: tuple[int, int] = (0, 0)
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes | None = None
    is_baseline: bool = False
    has_many_scans: bool = False


def scan_jpeg(data: bytes) -> JpegParts | None:
    """Read the header as Pillow does, wherever it is in good order.

    Args:
        data: The encoded file, which begins as a JPEG.

    Returns:
        What Pillow would find; None for other kinds of JPEG and for whatever is out of the
        ordinary, which Pillow is to judge.

    Source: ITU-T T.81, annex B.
    """
    parts = JpegParts()
    profiles: list[bytes] = []
    at = 2
    try:
        for _ in range(_MAX_SEGMENTS):
            if data[at] != 0xFF:
                break
            marker = data[at + 1]
            end = at + 2 + (data[at + 2] << 8 | data[at + 3])
            at += 4
            if end < at or end > len(data):
                return None
            if marker == _SCAN:
                parts.has_many_scans |= data[at] < _COMPONENTS
                return parts if parts.size[0] and parts.size[1] else None
            if not _take(parts, profiles, marker, data[at:end]):
                return None
            at = end
    except IndexError:
        pass
    return None


def _take(parts: JpegParts, profiles: list[bytes], marker: int, segment: bytes) -> bool:
    """Note what a segment says; False if it is out of the ordinary."""
    if marker in _PLAIN:
        return True
    if marker == _QUANTIZATION:
        return _whole_tables(segment)
    if parts.size != (0, 0):
        return False
    if marker in _FRAMES:
        parts.is_baseline = marker == _BASELINE
        parts.has_many_scans = marker == _PROGRESSIVE
        return _take_frame(parts, profiles, segment)
    if _APP0 <= marker <= _APP15:
        return _take_application(parts, profiles, marker, segment)
    return False


def _whole_tables(segment: bytes) -> bool:
    at = 0
    while at < len(segment):
        at += 65 if segment[at] < 16 else 129
    return at == len(segment)


def _take_frame(parts: JpegParts, profiles: list[bytes], segment: bytes) -> bool:
    if len(segment) != _THREE_COMPONENTS - 2 or segment[0] != 8 or segment[5] != _COMPONENTS:
        return False
    parts.size = (segment[3] << 8 | segment[4], segment[1] << 8 | segment[2])
    profiles.sort()  # by their numbers
    if profiles and profiles[0][1] == len(profiles):
        parts.profile = b"".join(piece[2:] for piece in profiles)
    return True


def _take_application(parts: JpegParts, profiles: list[bytes], marker: int, segment: bytes) -> bool:
    if marker == _APP1 and segment.startswith(_EXIF):
        if parts.exif:
            return False
        parts.exif = segment
    elif marker == _APP1 and segment.startswith(_XMP):
        if parts.xmp:
            return False
        parts.xmp = segment[len(_XMP) :]
    elif marker == _APP2 and segment.startswith(_ICC):
        profiles.append(segment[len(_ICC) :])
        return len(profiles[-1]) >= 2
    elif marker == _APP13:
        return segment[-6:-2] != b"8BIM"  # cut where Pillow gives up
    elif (marker == _APP0 and segment.startswith(_JFIF)) or (
        marker == _APP14 and segment.startswith(_ADOBE)
    ):
        return len(segment) >= 7
    return True


def check_jpeg(data: bytes) -> Header:
    """Refuse a JPEG whose header or scans would take minutes.

    Raises:
        BadImageError: If there are more than 100 scans, 10,000 segments or 32 MiB of metadata.
    """
    pixels = np.frombuffer(data, np.uint8)
    # Within the pixels of a scan a marker's first byte is always followed by another one than
    # here, so the count is at most too high by what the metadata hold.
    scans = np.count_nonzero((pixels[:-1] == 0xFF) & (pixels[1:] == 0xDA))
    if scans > MAX_SCANS:
        raise BadImageError(f"too many scans in a JPEG: {scans:,}, the limit is {MAX_SCANS}")
    _check_segments(data)
    return Header(frames=1)  # what follows in an MPO is the same picture again, or its depth


def _check_segments(data: bytes) -> None:
    """Go through the segments up to the first scan, as leniently as Pillow."""
    at, exif = 2, []
    junk = 0
    for _ in range(_MAX_SEGMENTS):
        found = _JUNK.match(data, at, at + _MAX_JUNK + 2)
        end = found.end() if found else at
        junk += end - at
        if junk > _MAX_JUNK or end > _MAX_METADATA:
            raise BadImageError("damaged: the JPEG's header doesn't end, or is over 32 MiB")
        marker = data[end + 1 : end + 2]
        if not marker or marker[0] == _SCAN:
            break
        at = end + 2
        if marker[0] in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if marker[0] == _APP1 and data.startswith(_EXIF, at + 2):
            exif.append(data[at + 2 + len(_EXIF) : at + length])
        at += max(length, 2)
    else:
        raise BadImageError(f"too many segments in a JPEG: the limit is {_MAX_SEGMENTS:,}")
    check_exif(b"".join(exif))
