"""Thumbnails of images that are known by their ids, where their files can still be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.decode import DecodePolicy, decode_image
from embedkit.errors import DecodeError, StoreFormatError
from embedkit.ordering import in_order, usable_cores
from embedkit.report import thumbnail
from embedkit.sources import ImageReader
from embedkit.sources.originals import find_originals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.records import ImageRecord
    from embedkit.store import StoreMeta

__all__ = ["policy_of", "thumbnails"]


def policy_of(meta: StoreMeta) -> DecodePolicy:
    """The decoding limits and background that the images of a store were decoded with.

    Raises:
        StoreFormatError: They have a setting that this version doesn't know.
    """
    settings = {name: value for name, value in meta.decode.items() if name != "decoder"}
    try:
        return DecodePolicy.from_config(settings)
    except (TypeError, ValueError, KeyError) as exc:
        raise StoreFormatError(
            f"the images were decoded with settings that this embedkit doesn't know ({exc})"
        ) from exc


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
