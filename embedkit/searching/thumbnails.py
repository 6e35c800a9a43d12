"""Small pictures of images that an index, a probe or a result names by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.decode import decode_image
from embedkit.engines import usable_cores
from embedkit.errors import DecodeError
from embedkit.pipeline import in_order
from embedkit.report import thumbnail
from embedkit.searching.embedder import policy_of
from embedkit.searching.originals import find_originals
from embedkit.sources import ImageReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.records import ImageRecord
    from embedkit.searching.embedder import QueryTarget

__all__ = ["make_thumbnails"]


def make_thumbnails(target: QueryTarget, ids: Sequence[str], side: int) -> dict[str, str]:
    """Id to thumbnail, for those images that can still be read and decoded.

    Args:
        target: Says by which limits images are decoded.
        ids: Each once.
        side: The longer side, pixels.
    """
    policy = policy_of(target)
    with ImageReader(max_bytes=policy.max_bytes) as reader:

        def make(record: ImageRecord) -> str:
            try:
                image = decode_image(reader.read(record), record.id, policy).image
            except DecodeError:
                return ""  # the page says "no picture"
            return thumbnail(image, side)

        made = in_order(make, find_originals(ids), usable_cores())
        return {record.id: picture for record, picture in made}
