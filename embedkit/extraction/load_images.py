"""Loads image records as backbone input: reads, decodes, resizes, crops and hashes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedkit.decode.phash import THUMBNAIL_SIDE, perceptual_hashes
from embedkit.decode.quality import measure
from embedkit.decode.sniff import sniff_format
from embedkit.decode.stated import Stated, stated
from embedkit.errors import DecodeError
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io.storage import is_source_error
from embedkit.types import ImageFacts, ImageFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.decode.image_loader import ImageLoader, LoadedImage
    from embedkit.sources import ImageReader
    from embedkit.types import ImageRecord

__all__ = ["Outcome", "UnreadImage", "load_images", "outcome_from_json", "outcome_to_json"]

Outcome = ImageFacts | ImageFailure | None
"""The outcome of a record: its facts, its failure, or None for a file that isn't an image."""


@dataclass(frozen=True, slots=True)
class UnreadImage(ImageFailure):
    """An image that failed because its source, rather than the image, couldn't be read."""


class _Read(NamedTuple):
    """An image that was decoded, and what is known of its encoded bytes."""

    loaded: LoadedImage
    nbytes: int
    content_hash: bytes
    mtime: int
    etag: str
    stated: Stated


def load_images(
    reader: ImageReader,
    load: ImageLoader,
    records: Sequence[ImageRecord],
    pixels: NDArray[np.uint8],
) -> list[Outcome]:
    """Loads images, each into its own place.

    Args:
        reader: Gives the encoded bytes.
        load: Decodes, scales and crops.
        records: ``n`` records.
        pixels: ``(n or more, S, S, 3) uint8``; the place of what isn't loaded stays as it is.

    Returns:
        One outcome per record.
    """
    outcomes: list[Outcome] = []
    thumbnails = np.empty((len(records), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    loaded: list[tuple[int, _Read]] = []
    for place, record in enumerate(records):
        found = _read(reader, load, record)
        outcomes.append(found if isinstance(found, ImageFailure) else None)
        if isinstance(found, _Read):
            pixels[place] = found.loaded.pixels
            thumbnails[len(loaded)] = found.loaded.thumbnail
            loaded.append((place, found))
    if not loaded:
        return outcomes
    small, places = thumbnails[: len(loaded)], [place for place, _ in loaded]
    # A part of the array is no copy; the places of a list are.
    mine = pixels[: len(loaded)] if places[-1] + 1 == len(loaded) else pixels[places]
    measures = measure(mine, small, load.preprocessing.resize).by_image()
    for (place, one), phash, measured in zip(
        loaded, perceptual_hashes(small), measures, strict=True
    ):
        image = one.loaded
        outcomes[place] = ImageFacts(
            image.width, image.height, one.nbytes, image.format, one.content_hash, phash,
            one.mtime, image.frames, one.etag, **measured, **one.stated._asdict(),
        )  # fmt: skip
    return outcomes


def _read(
    reader: ImageReader, load: ImageLoader, record: ImageRecord
) -> _Read | ImageFailure | None:
    nbytes = -1 if record.nbytes is None else record.nbytes
    try:
        if record.problem is not None:
            raise DecodeError(record.id, record.problem)
        is_image = record.named or has_image_name(record.id)
        if not is_image and sniff_format(reader.peek(record)) is None:
            return None
        mtime = reader.modified(record)  # before it is read: a later change is one
        data = reader.read(record)
        nbytes = len(data)
        loaded = load(data, record.id)
    except DecodeError as exc:
        is_lost = isinstance(exc.__cause__, OSError) and is_source_error(exc.__cause__, record)
        failure = UnreadImage if is_lost else ImageFailure
        return failure(record.id, exc.reason, nbytes if exc.nbytes is None else exc.nbytes)
    says = stated(data, loaded.format)
    digest = hashlib.sha256(data).digest()
    return _Read(loaded, nbytes, digest, mtime, record.etag or "", says)


def outcome_to_json(outcome: Outcome) -> list[Any] | None:
    """Plain values that JSON can hold; `outcome_from_json` reads them."""
    if outcome is None:
        return None
    if isinstance(outcome, ImageFailure):
        return [outcome.reason, outcome.nbytes, isinstance(outcome, UnreadImage)]
    values = [getattr(outcome, field.name) for field in fields(outcome)]
    return [one.hex() if isinstance(one, bytes) else one for one in values]


def outcome_from_json(image_id: str, values: list[Any] | None) -> Outcome:
    """What `outcome_to_json` gave."""
    if values is None:
        return None
    if len(values) == 3:
        reason, nbytes, is_lost = values
        return (UnreadImage if is_lost else ImageFailure)(image_id, reason, nbytes)
    width, height, nbytes, image_format, content_hash, *rest = values
    return ImageFacts(width, height, nbytes, image_format, bytes.fromhex(content_hash), *rest)
