"""Makes thumbnails of a store's images by id, as far as they can still be read."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.decode.thumbnail import thumbnail_uri
from embedkit.errors import DecodeError, SourceError
from embedkit.extraction.source_images import OriginalImages
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import Stage
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from embedkit.decode.policy import DecodePolicy

__all__ = ["thumbnails"]

_PART = 256  # ids that are read in the order of their archive
_log = logging.getLogger("embedkit")


def thumbnails(
    ids: Iterable[str],
    policy: DecodePolicy | None,
    side: int,
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    root: Path = Path(),
    hashes: Mapping[str, bytes] | None = None,
    max_bytes: int | None = None,
) -> dict[str, str]:
    """Id to thumbnail, for those images that can still be found.

    A page must not fail for lack of images: if ``images`` can't be read or has none of the ids, a
    warning is logged, and there are no thumbnails.

    Args:
        ids: Each once; the first ones come first.
        policy: Decoding limits and background; None is the default policy.
        side: The longer side is at most this, pixels.
        images: The sources that the ids are of, where these lie now. None: ids are taken for paths.
        root: The folder that relative ids are below, if they are taken for paths.
        hashes: SHA-256 of each id's encoded image: one of other bytes isn't shown. None shows what
            there is.
        max_bytes: Stop when the thumbnails reach this total size; None makes all.

    Returns:
        ``data:`` URIs of the images that were tried; empty for one that can't be read or decoded
        any more.
    """
    requested = list(ids)
    try:
        originals = (
            OriginalImages.of_source(images, requested, policy, hashes)
            if images
            else OriginalImages.by_ids(requested, root, policy, hashes)
        )
    except SourceError as exc:
        _log.warning("no thumbnails: %s", exc)
        return {}
    with originals:
        return _made(originals, requested, side, max_bytes)


def _made(
    originals: OriginalImages, requested: Sequence[str], side: int, max_bytes: int | None
) -> dict[str, str]:
    def make(name: str) -> str:
        try:
            return thumbnail_uri(originals.decode(name), side)
        except DecodeError:
            return ""  # the page says "no picture"

    place = {name: number for number, name in enumerate(originals)}
    made: dict[str, str] = {}
    nbytes = 0
    stage = Stage("making thumbnails", len(requested), unit="images")
    for start in range(0, len(requested), _PART):
        if max_bytes is not None and nbytes >= max_bytes:
            break
        part = sorted(requested[start : start + _PART], key=lambda name: place.get(name, -1))
        with closing(in_order(make, part, usable_cores())) as pictures:
            for name, picture in pictures:
                made[name] = picture
                stage.add()
        nbytes += sum(len(made[name]) for name in part)
    return made
