"""Thumbnails of images that are known by their ids, where their files can still be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.decode import DecodePolicy, decode_image
from embedkit.errors import DecodeError
from embedkit.ordering import in_order, usable_cores
from embedkit.report import thumbnail
from embedkit.sources import ImageReader
from embedkit.sources.originals import find_originals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.records import ImageRecord

__all__ = ["thumbnails"]


def thumbnails(ids: Iterable[str], policy: DecodePolicy, side: int) -> dict[str, str]:
    """Id to thumbnail, for those images that can still be found.

    Args:
        ids: Each once.
        policy: Decoding limits and background.
        side: The longer side is at most this, pixels.

    Returns:
        ``data:`` URIs; empty for an image that can't be read or decoded any more.
    """
    with ImageReader(max_bytes=policy.max_bytes) as reader:

        def make(found: tuple[str, ImageRecord]) -> str:
            name, record = found
            try:
                image = decode_image(reader.read(record), name, policy).image
            except DecodeError:
                return ""  # the page says "no picture"
            return thumbnail(image, side)

        made = in_order(make, find_originals(ids, Path()), usable_cores())
        return {name: picture for (name, _), picture in made}
