"""What a file says of its image besides the pixels: alpha, bits, capture time, camera."""

from __future__ import annotations

import calendar
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UNKNOWN", "Stated", "stated"]

_EXIF = b"Exif\0\0"
_MAKE, _MODEL, _BITS, _EXTRA, _EXIF_IFD = 0x010F, 0x0110, 0x0102, 0x0152, 0x8769
_ORIGINAL, _DIGITIZED = 0x9003, 0x9004
_ASCII, _SHORT, _LONG, _IFD = 2, 3, 4, 13
_WIDTH = {_ASCII: 1, _SHORT: 2, _LONG: 4, _IFD: 4}
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SCAN, _APP1 = 0xDA, 0xE1
_MOST_TEXT = 100  # characters of a camera's name
_MOST_BYTES = 1024  # of a value; all that is looked for is shorter


class Stated(NamedTuple):
    """What a file states; as unknown where it doesn't, or is damaged there.

    Attributes:
        alpha: 1 if it has an alpha channel or a transparent color, 0 if not, -1 if unknown.
        bits: Bits per channel; -1 if unknown.
        captured: When the picture was taken by the camera's clock, whose time zone is seldom
            known: seconds since 1970 as if it was UTC; -1 if unknown.
        camera: Maker and model; empty if unknown.
    """

    alpha: int = -1
    bits: int = -1
    captured: int = -1
    camera: str = ""


UNKNOWN = Stated()


def stated(data: bytes, kind: str) -> Stated:
    """Reads the header of a JPEG, PNG, WebP, TIFF, GIF or BMP; other formats are unknown.

    Args:
        data: The encoded file.
        kind: Its format, as ``sniff_format`` finds it.
    """
    reader = {
        "JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff, "GIF": _gif, "BMP": _bmp,
    }.get(kind)  # fmt: skip
    if reader is None:
        return UNKNOWN
    try:
        return reader(data)
    except (struct.error, IndexError, ValueError):  # damaged: what it says can't be known
        return UNKNOWN


def _jpeg(data: bytes) -> Stated:
    at, exif = 2, b""
    while data[at] == 0xFF:
        marker, size = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if marker in _FRAMES:
            return Stated(0, data[at + 4], *_exif(exif))
        if marker == _APP1 and not exif and data.startswith(_EXIF, at + 4):
            exif = data[at + 10 : at + 2 + size]
        if marker == _SCAN or size < 2:
            break
        at += 2 + size
    return Stated(0, -1, *_exif(exif))


def _png(data: bytes) -> Stated:
    bits, kind = data[24], data[25]
    alpha, exif, at = int(kind in {4, 6}), b"", 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"tRNS":
            alpha = 1
        elif name == b"eXIf":
            exif = data[at + 8 : at + 8 + size]
        elif name == b"IEND":
            break
        at += 12 + size
    return Stated(alpha, 8 if kind == 3 else bits, *_exif(exif))


def _webp(data: bytes) -> Stated:
    alpha, exif, at = 0, b"", 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"VP8X":
            alpha = data[at + 8] >> 4 & 1
        elif name == b"VP8L" and at == 12:
            alpha = data[at + 12] >> 4 & 1
        elif name == b"EXIF":
            exif = data[at + 8 : at + 8 + size].removeprefix(_EXIF)
        at += 8 + size + size % 2
    return Stated(alpha, 8, *_exif(exif))


def _tiff(data: bytes) -> Stated:
    entries = dict(_entries(data))
    bits = _numbers(data, entries.get(_BITS))
    extra = _numbers(data, entries.get(_EXTRA))
    return Stated(int(bool({1, 2} & {*extra})), bits[0] if bits else 1, *_exif(data))


def _gif(data: bytes) -> Stated:
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # extensions before the first image
        if data[at + 1] == 0xF9 and data[at + 3] & 1:
            return Stated(1, 8)
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    return Stated(0, 8)


def _bmp(data: bytes) -> Stated:
    (depth,) = struct.unpack_from("<H", data, 28)
    return Stated(0 if depth <= 24 else -1, 5 if depth == 16 else 8)


def _exif(tiff: bytes) -> tuple[int, str]:
    """Capture time and camera of an EXIF block without its prefix."""
    if not tiff:
        return -1, ""
    try:
        first = dict(_entries(tiff))
        names = [_text(tiff, first.get(tag)) for tag in (_MAKE, _MODEL)]
        at = _numbers(tiff, first.get(_EXIF_IFD))
        second = dict(_entries(tiff, at[0])) if at else {}
        texts = [_text(tiff, second.get(tag)) for tag in (_ORIGINAL, _DIGITIZED)]
    except (struct.error, IndexError, ValueError):
        return -1, ""
    make, model = names
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return next((at for at in map(_seconds, texts) if at >= 0), -1), camera[:_MOST_TEXT]


_Entry = tuple[str, int, int, bytes]
"""Byte order, kind, number of values, and the four bytes of the values or of where they are."""


def _entries(tiff: bytes, start: int | None = None) -> Iterator[tuple[int, _Entry]]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return
    at = struct.unpack_from(f"{order}I", tiff, 4)[0] if start is None else start
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for tag, kind, number, value in struct.iter_unpack(
        f"{order}HHI4s", tiff[at + 2 : at + 2 + 12 * count]
    ):
        yield tag, (order, kind, number, value)


def _content(tiff: bytes, entry: _Entry) -> bytes:
    order, kind, number, value = entry
    size = min(_WIDTH.get(kind, 1) * number, _MOST_BYTES)
    if size <= len(value):
        return value[:size]
    (at,) = struct.unpack(f"{order}I", value)
    return tiff[at : at + size]


def _text(tiff: bytes, entry: _Entry | None) -> str:
    if entry is None or entry[1] != _ASCII:
        return ""
    text = _content(tiff, entry).split(b"\0")[0].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _numbers(tiff: bytes, entry: _Entry | None) -> tuple[int, ...]:
    if entry is None or entry[1] not in {_SHORT, _LONG, _IFD}:
        return ()
    content = _content(tiff, entry)
    letter = "H" if entry[1] == _SHORT else "I"
    return struct.unpack(f"{entry[0]}{len(content) // _WIDTH[entry[1]]}{letter}", content)


def _seconds(text: str) -> int:
    """Of ``2024:05:17 14:03:59``; -1 if it is no time, or before 1970."""
    try:
        return max(calendar.timegm(time.strptime(text, "%Y:%m:%d %H:%M:%S")), -1)
    except ValueError:
        return -1
