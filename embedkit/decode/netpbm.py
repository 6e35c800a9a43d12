"""Decodes PBM, PGM and PPM files; what Pillow reads value by value in Python, NumPy reads here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PpmImagePlugin

from embedkit.decode.checks import Header
from embedkit.decode.failure import BadImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_ppm", "read_slow_ppm"]

_NUMBER = rb"(?:(?:\s|#[^\r\n]*[\r\n])+\d+)"
_HEADER = re.compile(rb"P(?:[14]%b{2}|[2356]%b{3})\s" % (_NUMBER, _NUMBER))
_MAX_HEADER = 64 * 1024
_MAX_COMMENTS = 1000  # among the pixels of a plain one
_SPACE = b" \t\n\r\v\f"
_PART = 16 * 2**20  # bytes of text that are parsed at once
_LONG_NUMBER = re.compile(rb"\d{11}")  # Pillow refuses it


def check_ppm(data: bytes) -> Header:
    """Refuse endless comments, which Pillow reads byte by byte or slowly.

    Raises:
        BadImageError: If the header doesn't end within 64 KiB, or pixels written as text have
            more than 1,000 comments between them.
    """
    if len(data) > _MAX_HEADER and not _HEADER.match(data[:_MAX_HEADER]):
        raise BadImageError("damaged: the PPM's header doesn't end within 64 KiB")
    if data[1:2] in b"123" and data.count(b"#") > _MAX_COMMENTS:
        raise BadImageError(f"damaged: over {_MAX_COMMENTS:,} comments in a PPM")
    return Header()


def read_slow_ppm(data: bytes, image: PpmImagePlugin.PpmImageFile) -> Image.Image | None:
    """The pixels of a file that Pillow reads value by value.

    Args:
        data: The encoded file, which `check_ppm` has passed.
        image: The file as Pillow opened it.

    Returns:
        What Pillow would decode (16-bit gray as ``I;16``); None for what Pillow reads quickly, and
        for comments among the pixels, damage and the like, which Pillow is to judge.
    """
    decoder, _, offset, args = image.tile[0]
    if decoder not in ("ppm", "ppm_plain"):
        return None
    bands = len(image.getbands())
    count = image.width * image.height * bands
    most = int(args[1]) if isinstance(args, tuple) else 1
    samples: NDArray[Any] | None
    if image.mode == "1":
        samples = _bits(data, offset, count)
    elif decoder == "ppm":
        kind = np.dtype(">u2" if most > 255 else "u1")
        if len(data) - offset < count * kind.itemsize:
            return None
        samples = np.frombuffer(data, kind, count, offset)
    else:
        samples = _numbers(data, offset, count, most)
    if samples is None:
        return None
    if image.mode != "1":
        samples = _levels(most, 65535 if image.mode == "I" else 255)[samples]
    shape = (image.height, image.width, bands) if bands > 1 else (image.height, image.width)
    return Image.fromarray(samples.reshape(shape))


def _levels(most: int, out: int) -> NDArray[np.unsignedinteger[Any]]:
    """The level of each value from 0 to 65,535, by Pillow's formula."""
    levels = [min(out, round(value / most * out)) for value in range(most + 1)]
    kind: type[np.unsignedinteger[Any]] = np.uint16 if out > 255 else np.uint8
    table: NDArray[np.unsignedinteger[Any]] = np.full(65_536, out, kind)
    table[: most + 1] = levels
    return table


def _bits(data: bytes, offset: int, count: int) -> NDArray[np.uint8] | None:
    text = data[offset:].translate(None, _SPACE)
    if len(text) < count or text.translate(None, b"01"):
        return None
    bits = np.frombuffer(text, np.uint8, count)
    return np.where(bits == ord("0"), np.uint8(255), np.uint8(0))


def _numbers(data: bytes, offset: int, count: int, most: int) -> NDArray[np.uint16] | None:
    """Numbers that are written as text."""
    found, left, end = [], count, len(data)
    while left and offset < end:
        stop = min(offset + _PART, end)
        if stop < end:  # not within a number
            stop = max(data.rfind(mark, offset, stop) for mark in (b" ", b"\n", b"\t", b"\r")) + 1
        text = data[offset:stop]
        if not text or text.translate(None, b"0123456789" + _SPACE) or _LONG_NUMBER.search(text):
            return None
        part = np.fromstring(text, np.int64, sep=" ")[:left]
        if part.size and part.max() > most:
            return None
        found.append(part.astype(np.uint16))
        left -= len(part)
        offset = stop
    return None if left else np.concatenate(found)
