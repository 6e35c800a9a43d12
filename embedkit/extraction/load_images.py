"""Loads image records as backbone input: reads, decodes, resizes, crops and hashes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
from embedkit.decode.phash import THUMBNAIL_SIDE, perceptual_hashes
from embedkit.decode.quality import luminance_levels, measure
from embedkit.decode.sniff import sniff_format
from embedkit.decode.stated import Stated, stated
from embedkit.errors import DecodeError
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io.storage import is_source_error
from embedkit.types import ImageFacts, ImageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.decode.image_loader import LoadedImage
    from embedkit.sources import ImageReader
    from embedkit.types import ImageRecord

__all__ = [
    "Decoders",
    "Outcome",
    "ReadFile",
    "SetAside",
    "UnreadImage",
    "facts_of",
    "load_images",
    "outcome_from_json",
    "outcome_to_json",
]


@dataclass(frozen=True, slots=True)
class UnreadImage(ImageFailure):
    """An image that failed because its source, rather than the image, couldn't be read."""


class ReadFile(NamedTuple):
    """What is known of a file that was read, besides its pixels.

    Attributes:
        width: Of the upright image, pixels.
        height: Of the upright image, pixels.
        nbytes: Encoded bytes.
        format: As ``DecodedImage.format``.
        content_hash: SHA-256 of the bytes.
        mtime: When it was changed, as ``ImageReader.modified`` says.
        frames: As ``DecodedImage.frames``.
        etag: The object store's mark of this version, or nothing.
        stated: What the file says of its image.
    """

    width: int
    height: int
    nbytes: int
    format: str
    content_hash: bytes
    mtime: int
    frames: int
    etag: str
    stated: Stated


class SetAside(NamedTuple):
    """An image that was read but not decoded: a GPU is to do that."""

    jpeg: EncodedJpeg
    file: ReadFile


Outcome = ImageFacts | ImageFailure | SetAside | None
"""Of a record: its facts, its failure, what a GPU is to decode, or None where it is no image."""


class Decoders(Protocol):
    """What reads and decodes outside of this process.

    Attributes:
        callers: Threads that keep it busy by calling ``load`` at the same time.
    """

    callers: int

    def load(self, records: Sequence[ImageRecord], pixels: NDArray[np.uint8]) -> list[Outcome]:
        """Loads ``n`` images, each into its own place; see `load_images`."""


def load_images(
    reader: ImageReader,
    load: Callable[[bytes, str], LoadedImage | EncodedJpeg],
    records: Sequence[ImageRecord],
    pixels: NDArray[np.uint8],
    resize: int,
) -> list[Outcome]:
    """Loads images, each into its own place.

    Args:
        reader: Gives the encoded bytes.
        load: Decodes, scales and crops, or sets aside; an ``ImageLoader`` or the like.
        records: ``n`` records.
        pixels: ``(n or more, S, S, 3) uint8``; the place of what isn't loaded stays as it is.
        resize: The shorter side that images are scaled to before they are cropped, pixels.

    Returns:
        One outcome per record.
    """
    outcomes: list[Outcome] = []
    thumbnails = np.empty((len(records), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    places: list[int] = []
    files: list[ReadFile] = []
    for place, record in enumerate(records):
        found = _read(reader, load, record)
        if not isinstance(found, tuple):
            outcomes.append(found)
            continue
        image, file = found
        if isinstance(image, EncodedJpeg):
            outcomes.append(SetAside(image, file))
            continue
        outcomes.append(None)
        pixels[place] = image.pixels
        thumbnails[len(places)] = image.thumbnail
        places.append(place)
        files.append(file)
    if places:
        # A part of the array is no copy; the places of a list are.
        mine = pixels[: len(places)] if places[-1] + 1 == len(places) else pixels[places]
        facts = facts_of(files, mine, thumbnails[: len(places)], resize)
        for place, one in zip(places, facts, strict=True):
            outcomes[place] = one
    return outcomes


def facts_of(
    files: Sequence[ReadFile], pixels: NDArray[np.uint8], small: NDArray[np.uint8], resize: int
) -> list[ImageFacts]:
    """The facts of images that were read and decoded.

    Args:
        files: ``n`` files.
        pixels: ``(n, S, S, 3) uint8``, the network's inputs.
        small: ``(n, 32, 32, 3) uint8``, thumbnails.
        resize: As ``load_images``'s.
    """
    measures, hashes = measure(pixels, small, resize).by_image(), perceptual_hashes(small)
    gray = luminance_levels(small)
    return [
        ImageFacts(
            file.width, file.height, file.nbytes, file.format, file.content_hash, phash,
            file.mtime, file.frames, file.etag, **measured, **file.stated._asdict(),
            thumbnail=thumbnail.tobytes(),
        )
        for file, phash, measured, thumbnail in zip(files, hashes, measures, gray, strict=True)
    ]  # fmt: skip


def _read(
    reader: ImageReader,
    load: Callable[[bytes, str], LoadedImage | EncodedJpeg],
    record: ImageRecord,
) -> tuple[LoadedImage | EncodedJpeg, ReadFile] | ImageFailure | None:
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
        image = load(data, record.id)
    except DecodeError as exc:
        is_lost = isinstance(exc.__cause__, OSError) and is_source_error(exc.__cause__, record)
        failure = UnreadImage if is_lost else ImageFailure
        return failure(record.id, exc.reason, nbytes if exc.nbytes is None else exc.nbytes)
    if isinstance(image, EncodedJpeg):
        size, kind, frames = image.upright_size, "JPEG", 1
    else:
        size, kind, frames = (image.width, image.height), image.format, image.frames
    digest = hashlib.sha256(data).digest()
    says = stated(data, kind)
    file = ReadFile(*size, nbytes, kind, digest, mtime, frames, record.etag or "", says)
    return image, file


def outcome_to_json(outcome: Outcome) -> list[Any] | None:
    """Plain values that JSON can hold; `outcome_from_json` reads them."""
    if outcome is None:
        return None
    if isinstance(outcome, ImageFailure):
        return [outcome.reason, outcome.nbytes, isinstance(outcome, UnreadImage)]
    if isinstance(outcome, SetAside):
        *before, digest, mtime, frames, etag, says = outcome.file
        return [outcome.jpeg, digest.hex(), [*before, mtime, frames, etag, says]]
    values = [getattr(outcome, field.name) for field in fields(outcome)]
    return [one.hex() if isinstance(one, bytes) else one for one in values]


def outcome_from_json(image_id: str, values: list[Any] | None) -> Outcome:
    """What `outcome_to_json` gave."""
    if values is None:
        return None
    if len(values) == 3 and isinstance(values[0], list):
        jpeg, digest, (*before, mtime, frames, etag, says) = values
        known = [*before, bytes.fromhex(digest), mtime, frames, etag, Stated(*says)]
        return SetAside(EncodedJpeg(*jpeg), ReadFile._make(known))
    if len(values) == 3:
        reason, nbytes, is_lost = values
        return (UnreadImage if is_lost else ImageFailure)(image_id, reason, nbytes)
    facts = dict(zip((field.name for field in fields(ImageFacts)), values, strict=True))
    for name in ("content_hash", "thumbnail"):
        facts[name] = bytes.fromhex(facts[name])
    return ImageFacts(**facts)
