"""Small copies of images, as JPEG files and as ``data:`` URIs for pages and notebooks."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import DecodeError
from embedkit.sources import ImageReader
from embedkit.sources.id_lookup import find_originals
from embedkit.sources.naming import is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["SMALL", "thumbnail_jpeg", "thumbnail_uri", "thumbnails_of"]

SMALL = 96
"""Images whose longer side is below this, pixels, are shown enlarged."""

_QUALITY, _SMALL_QUALITY = 80, 92


def thumbnail_uri(image: Image.Image, side: int) -> str:
    """A small copy of an image that can stand in a page itself.

    Args:
        image: Any size and mode that converts to RGB.
        side: The longer side is at most this, pixels.

    Returns:
        A ``data:`` URI of a JPEG.
    """
    return "data:image/jpeg;base64," + base64.b64encode(thumbnail_jpeg(image, side)).decode("ascii")


def thumbnail_jpeg(image: Image.Image, side: int) -> bytes:
    """A small copy of an image as a JPEG file.

    Args:
        image: Any size and mode that converts to RGB.
        side: The longer side is at most this, pixels.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(image.size) < SMALL:  # its pixels will be seen one by one
        small.save(file, "JPEG", quality=_SMALL_QUALITY, subsampling=0, optimize=True)
    else:
        small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def thumbnails_of(
    ids: Iterable[str],
    roots: Sequence[Path],
    side: int = 64,
    hashes: Mapping[str, bytes] | None = None,
) -> dict[str, str]:
    """Thumbnails of images that are read from their own files.

    Args:
        ids: Ids of a store; URLs are left out.
        roots: The folders that relative ids may start from.
        side: As ``thumbnail_uri``'s.
        hashes: SHA-256 of each id's encoded image; None if that isn't known.

    Returns:
        Id to ``data:`` URI, without the images that can't be read or decoded any more, or are
        others by now.
    """
    found = {}
    local = dict.fromkeys(name for name in ids if not is_url(name))
    with ImageReader(max_bytes=DecodePolicy().max_bytes) as reader:
        for name, record in find_originals(local, roots):
            with suppress(DecodeError):  # missing or damaged: the others are shown
                data = reader.read(record)
                if hashes is None or sha256(data).digest() == hashes[name]:
                    found[name] = thumbnail_uri(decode_image(data, name).image, side)
    return found
