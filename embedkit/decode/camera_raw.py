"""Recognises camera raws among TIFFs, so that none is taken for the preview that it carries.

Most raws are TIFF files whose first page is a preview; the picture is a mosaic of single colours in
a sub-image, in a compression of the maker's own.

Source: TIFF/EP (ISO 12234-2); DNG 1.7.1 (Adobe, 2023); the tables of LibRaw and ExifTool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.decode.tiff_directory import Tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.decode.tiff_directory import Directory

__all__ = ["preview_reason"]

_MOSAICS = frozenset((32803, 34892))
"""Photometric interpretations: colour filter array, linear raw."""
_COMPRESSIONS = frozenset((262, 32767, 32769, 32770, 34713, 65000, 65535))
"""Of Kodak, Sony, Epson, Samsung, Nikon, Kodak and Pentax."""


def preview_reason(
    first: Directory, pages: Sequence[Directory], sub_images: Sequence[Directory]
) -> str | None:
    """Why the first page of a TIFF isn't the picture that the file is there for.

    Args:
        first: The first page.
        pages: The pages behind it.
        sub_images: The sub-images of the first page.

    Returns:
        One line; None for an ordinary TIFF.
    """
    if any(_is_raw(one) for one in (first, *pages, *sub_images)):
        return "a camera raw: only its preview could be read; convert it to TIFF or JPEG first"
    # A part of the page can't be larger than the page; another page can, if this one is whole.
    rivals = [*sub_images, *pages] if first.is_reduced else sub_images
    largest = max(rivals, key=lambda one: one.pixels, default=first)
    if largest.pixels > first.pixels:
        return (
            f"its first page is only a preview, {_size(first)}, of a picture of {_size(largest)} "
            "behind it: convert that first"
        )
    if first.is_reduced and Tag.MAKE in first.blobs:
        return "a camera's file that begins with a preview, without the picture: convert it first"
    return None


def _is_raw(one: Directory) -> bool:
    return (
        one.first(Tag.PHOTOMETRIC) in _MOSAICS
        or one.first(Tag.COMPRESSION) in _COMPRESSIONS
        or any(tag in one.numbers or tag in one.blobs
               for tag in (Tag.CFA_DIM, Tag.CFA_PATTERN, Tag.DNG_VERSION))
    )  # fmt: skip


def _size(one: Directory) -> str:
    return "x".join(map(str, one.size))
