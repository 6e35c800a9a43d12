"""Makes pictures of a store's images by id, as far as these can still be read."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.thumbnail import SMALL, thumbnail_uri
from embedkit.errors import DecodeError, SourceError
from embedkit.extraction.source_images import OriginalImages
from embedkit.report.gallery_data import Picture, facts_line
from embedkit.report.links import link_to
from embedkit.tabular import valid_text
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import Stage
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["thumbnails", "thumbnails_if_found"]

_PART = 256  # ids that are read in the order of their archive
_log = logging.getLogger("embedkit")


def thumbnails(
    ids: Iterable[str],
    policy: DecodePolicy | None,
    side: int,
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    roots: Sequence[Path] = (),
    hashes: Mapping[str, bytes] | None = None,
    max_bytes: int | None = None,
    page: Path | None = None,
) -> dict[str, Picture]:
    """Id to picture with a thumbnail, for those images that can still be found.

    Args:
        ids: Each once; the first ones come first.
        policy: Decoding limits and background; None is the default policy.
        side: The longer side is at most this, pixels.
        images: The sources that the ids are of, where these lie now. None: ids are taken for paths.
        roots: The folders that relative ids may start from, if they are taken for paths; none is
            the working folder.
        hashes: SHA-256 of each id's encoded image: one of other bytes isn't shown. None shows what
            there is.
        max_bytes: Stop when the thumbnails reach this total size; None makes all.
        page: Where the page will lie, for links to the images; None makes no links.

    Returns:
        The images that were tried; one that can't be read or decoded any more has no thumbnail.

    Raises:
        SourceError: ``images`` can't be read, or not one of the images is found.
    """
    requested = list(ids)
    with (
        OriginalImages.of_source(images, requested, policy, hashes)
        if images and requested
        else OriginalImages.by_ids(requested, roots or (Path(),), policy, hashes)
    ) as originals:
        return _made(originals, requested, _Maker(originals, policy, side, page), max_bytes)


def thumbnails_if_found(ids: Iterable[str], *args: Any, **options: Any) -> dict[str, Picture]:
    """As ``thumbnails``, for pages whose pictures aren't their purpose: logs if none is found."""
    try:
        return thumbnails(ids, *args, **options)
    except SourceError as exc:
        _log.warning("no thumbnails: %s", valid_text(str(exc)))
        return {}


@dataclass(frozen=True, slots=True)
class _Maker:
    originals: OriginalImages
    policy: DecodePolicy | None
    side: int
    page: Path | None

    def __call__(self, name: str) -> Picture:
        try:
            data = self.originals.read(name)
            decoded = decode_image(data, name, self.policy or DecodePolicy())
        except DecodeError:
            return Picture(name)  # the page says "no picture"
        image = decoded.image
        return Picture(
            name,
            thumbnail_uri(image, self.side),
            link_to(self.originals.record(name), self.page) if self.page else "",
            facts_line(*image.size, decoded.format, len(data)),
            is_small=max(image.size) < SMALL,
        )


def _made(
    originals: OriginalImages, requested: Sequence[str], make: _Maker, max_bytes: int | None
) -> dict[str, Picture]:
    place = {name: number for number, name in enumerate(originals)}
    made: dict[str, Picture] = {}
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
        nbytes += sum(len(made[name].thumbnail) for name in part)
    return made
