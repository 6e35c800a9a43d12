"""Checks a TIFF before it is decoded: what it holds, where, and whether Pillow reads it rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, TiffImagePlugin

from embedkit.decode.camera_raw import preview_reason
from embedkit.decode.failure import BadImageError
from embedkit.decode.jpeg_header import MAX_SCANS
from embedkit.decode.tiff_directory import Directory, Tag, read_pages, read_sub_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TiffHeader", "check_strips", "palette_of", "read_tiff_header", "why_not_pillow"]


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What the directories of a TIFF say.

    Attributes:
        page: The first page.
        frames: Pages; a page that can't be read counts, previews and masks don't.
    """

    page: Directory
    frames: int

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of the page and, for a tiled one, of a tile."""
        tile = self.page.first(Tag.TILE_WIDTH), self.page.first(Tag.TILE_LENGTH)
        return (self.page.size, tile)


def read_tiff_header(data: bytes) -> TiffHeader:
    """Read the directories.

    Raises:
        BadImageError: If there is no picture, it is only a preview, or its samples have no white.
        struct.error: If the file is cut.
    """
    pages = list(read_pages(data))
    page = pages[0] if pages else None
    if page is None or not page.pixels:
        raise BadImageError("damaged: the TIFF states no width and length")
    readable = [one for one in pages[1:] if one is not None]
    reason = preview_reason(page, readable, read_sub_images(data, page))
    if reason is not None:
        raise BadImageError(reason)
    _check_samples(page)
    behind = sum(one is None or one.is_page for one in pages[1:])
    return TiffHeader(page, 1 + behind)


_UNSIGNED, _FLOATS, _VOID = 1, (3, 6), 4


def _check_samples(page: Directory) -> None:
    """Refuse samples for which no convention says what white is."""
    formats = page.numbers.get(Tag.SAMPLE_FORMAT, (_UNSIGNED,))
    bits = max(page.numbers.get(Tag.BITS, (1,)))
    if any(one in _FLOATS for one in formats):
        raise BadImageError(f"{bits}-bit float samples have no defined white: convert first")
    if bits > 16 or any(one not in (_UNSIGNED, _VOID) for one in formats):
        raise BadImageError("signed or 32-bit integer samples have no defined white: convert first")


def check_strips(data: bytes, page: Directory) -> None:
    """Find a cut file, whose strips and tiles don't all end inside the data, and one that is slow.

    Raises:
        BadImageError: If one doesn't, there are fewer than the page needs or more than 500,000,
            they share their bytes, or one is a JPEG of too many scans.
    """
    if page.first(Tag.JPEG_OFFSET) + page.first(Tag.JPEG_BYTES) > len(data):
        raise BadImageError("truncated: the TIFF's JPEG stream ends beyond the file's end")
    is_tiled = Tag.TILE_OFFSETS in page.numbers
    offsets = page.numbers.get(Tag.TILE_OFFSETS if is_tiled else Tag.STRIP_OFFSETS, ())
    if not offsets:
        return
    if len(offsets) > _MAX_STRIPS:
        raise BadImageError(f"too many strips in a TIFF: {len(offsets):,}")
    per_plane, planes, block_bytes, last_bytes = _grid(page, is_tiled)
    if len(offsets) < per_plane * planes:
        raise BadImageError(f"truncated: {len(offsets)} of {per_plane * planes} TIFF strips")
    if page.first(Tag.COMPRESSION, 1) == _RAW and not _is_subsampled(page):
        # The stated count is often wrong, and nobody reads it.
        counts = np.full(per_plane * planes, block_bytes, np.uint64)
        counts[per_plane - 1 :: per_plane] = last_bytes
    else:
        stated = page.numbers.get(Tag.TILE_BYTES if is_tiled else Tag.STRIP_BYTES, ())
        counts = np.array(stated, np.uint64)
    starts = np.array(offsets[: len(counts)], np.uint64)
    counts = counts[: len(starts)]
    if np.any(starts > len(data)) or np.any(counts > len(data) - starts):
        raise BadImageError("truncated: the pixels of the TIFF end beyond the file's end")
    if int(counts.sum()) > _MAX_SHARED * len(data):
        raise BadImageError("damaged: the strips of the TIFF share their bytes")
    if page.first(Tag.COMPRESSION, 1) in _JPEGS:
        _check_scans(data, starts, counts)


def _check_scans(data: bytes, starts: NDArray[np.uint64], counts: NDArray[np.uint64]) -> None:
    """Refuse strips or tiles that are JPEGs of more scans than `check_jpeg` allows."""
    pixels = np.frombuffer(data, np.uint8)
    scans = np.flatnonzero((pixels[:-1] == 0xFF) & (pixels[1:] == 0xDA)).astype(np.uint64)
    per_strip = np.searchsorted(scans, starts + counts) - np.searchsorted(scans, starts)
    if per_strip.size and per_strip.max() > MAX_SCANS:
        raise BadImageError(f"too many scans in a JPEG: the limit is {MAX_SCANS}")


def _grid(page: Directory, is_tiled: bool) -> tuple[int, int, int, int]:
    """Strips or tiles of a plane, planes, and bytes of a strip or tile and of a plane's last."""
    width, length = page.size
    high = page.first(Tag.TILE_LENGTH) if is_tiled else page.first(Tag.ROWS_PER_STRIP, length)
    wide = page.first(Tag.TILE_WIDTH) if is_tiled else width
    if not wide or not high:
        raise BadImageError("damaged: the TIFF doesn't state the size of its tiles or strips")
    high = high if is_tiled else min(high, length)
    bits, planes = _bits(page), 1
    if page.first(Tag.PLANAR, 1) == 2:
        bits, planes = bits[:1], len(bits)
    row_bytes = -(-wide * sum(bits) // 8)
    down = -(-length // high)
    last = high if is_tiled else length - high * (down - 1)
    return -(-width // wide) * down, planes, high * row_bytes, last * row_bytes


def _bits(page: Directory) -> tuple[int, ...]:
    """Bits of each sample; where one number stands for all, repeated, as Pillow does."""
    bits = page.numbers.get(Tag.BITS, (1,))
    default = 3 if page.first(Tag.COMPRESSION, 1) == _OLD_JPEG else 1
    samples = page.first(Tag.SAMPLES, default)
    if samples > TiffImagePlugin.MAX_SAMPLESPERPIXEL:
        return bits
    return bits * samples if len(bits) == 1 else bits[:samples]


def _is_subsampled(page: Directory) -> bool:
    return page.first(Tag.PHOTOMETRIC) == _YCBCR and page.numbers.get(Tag.SUBSAMPLING, (2, 2)) != (
        1,
        1,
    )


def palette_of(page: Directory) -> NDArray[np.uint8]:
    """The colours of a palette image.

    A map without any value above 255 is taken as one of 8 bits, which some programs write; libtiff
    judges in the same way.

    Returns:
        ``(colours, 3) uint8``.
    """
    table = np.array(page.numbers.get(Tag.COLOR_MAP, ()), np.uint16)
    if len(table) % 3:
        raise BadImageError("damaged: the TIFF's palette isn't of three colours")
    wide = table.size and table.max() > 255
    return np.ascontiguousarray((table >> 8 if wide else table).reshape(3, -1).T.astype(np.uint8))


_RAW, _OLD_JPEG = 1, 6
_JPEGS = (_OLD_JPEG, 7, 34892)
_MAX_STRIPS = 500_000
_MAX_SHARED = 8
_UNBUILT = (34676, 34677, 50001)
"""SGI's logarithmic samples, which are floats, and WebP, which Pillow's wheels don't decode."""
_RGB, _CMYK, _YCBCR = 2, 5, 6
_PLAIN_ALPHA = (2,)


def why_not_pillow(page: Directory) -> str | None:
    """What about the layout of a page Pillow can't read, or reads wrongly; None if nothing.

    The second kind was found by comparing it with tifffile over all layouts that this writes.
    """
    compression = page.first(Tag.COMPRESSION, 1)
    limit = Image.MAX_IMAGE_PIXELS
    if page.big and page.prefix == b"MM":
        return "a big-endian BigTIFF"
    if compression in _UNBUILT or compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"compression {compression}"
    if page.first(Tag.DEPTH, 1) != 1:
        return "more than one layer"
    if compression == _RAW and _is_subsampled(page):
        return "subsampled YCbCr without compression"
    if limit is not None and page.pixels > 2 * limit:
        return "more pixels than PIL.Image.MAX_IMAGE_PIXELS"
    return _why_not_samples(page, compression)


def _why_not_samples(page: Directory, compression: int) -> str | None:
    """The same of the samples of a page."""
    photometric = _YCBCR if compression == _OLD_JPEG else page.first(Tag.PHOTOMETRIC)
    bits, extra = _bits(page), page.numbers.get(Tag.EXTRA_SAMPLES, ())
    name = f"{bits[0]}-bit samples, {len(bits)} per pixel, photometric {photometric}"
    if page.first(Tag.PLANAR, 1) == 2 and len(bits) > 1:
        # Pillow 11 and 13 differ in planes that belong to nothing.
        plain = photometric in (_RGB, _CMYK, _YCBCR) and extra in ((), _PLAIN_ALPHA)
        if not plain or not (set(bits) == {8} or (set(bits) == {16} and compression != _RAW)):
            return f"{name}, in separate planes"
    fill_order = page.first(Tag.FILL_ORDER, 1)
    key = (page.prefix, photometric, (_UNSIGNED,), fill_order, bits, extra)
    return None if key in TiffImagePlugin.OPEN_INFO else name
