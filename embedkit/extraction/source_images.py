"""Reads the files and pixels of a store's images, by their ids."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import ExitStack
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import DecodeError, SourceError, StoreFormatError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.id_lookup import archive_of, find_originals, place_of
from embedkit.sources.naming import is_url
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from embedkit.store import EmbeddingStore, StoreMeta
    from embedkit.types import ImageRecord

__all__ = ["OriginalImages", "hashes_of", "policy_of", "refuse_missing_images"]

# How many candidates are compared to find where images were moved to.
_TRIED_IDS, _TRIED_NAMESAKES, _TRIED_FOLDERS, _TRIED_IMAGES = 64, 10_000, 16, 8


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


def hashes_of(store: EmbeddingStore) -> dict[str, bytes]:
    """SHA-256 of the encoded images of a store, by their ids."""
    rows = store.images("content_hash")
    return {name: row.tobytes() for name, row in zip(store.ids, rows, strict=True)}


class OriginalImages:
    """Reads and decodes images by id, in many threads; use it as a context manager.

    Args:
        records: Id to image record.
        policy: Decoding limits and background; None is the default policy.
        hashes: SHA-256 of each id's encoded image, see ``hashes_of``; an image with
            another hash is rejected. None skips the check.

    Attributes:
        policy: As given.
    """

    def __init__(
        self,
        records: Mapping[str, ImageRecord],
        policy: DecodePolicy | None = None,
        hashes: Mapping[str, bytes] | None = None,
    ) -> None:
        self.policy = policy or DecodePolicy()
        self._records = records
        self._hashes = hashes
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(ImageReader(max_bytes=self.policy.max_bytes))

    @classmethod
    def by_ids(
        cls,
        ids: Iterable[str],
        roots: Sequence[Path],
        policy: DecodePolicy | None = None,
        hashes: Mapping[str, bytes] | None = None,
    ) -> Self:
        """Reads the images from their original paths, which the ids contain.

        Args:
            ids: Ids of a store, without duplicates.
            roots: The folders that relative ids may start from; see ``StoreMeta.folders``.
            policy: As the class's.
            hashes: As the class's.

        Raises:
            SourceError: Not one of the images is there.
        """
        requested = list(ids)
        records = dict(find_originals(requested, roots))
        if requested and not any(_is_there(record.path) for record in records.values()):
            raise SourceError(_none_found(requested, roots))
        return cls(records, policy, hashes)

    @classmethod
    def of_source(
        cls,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        ids: Iterable[str],
        policy: DecodePolicy | None = None,
        hashes: Mapping[str, bytes] | None = None,
    ) -> Self:
        """Finds the images in a source, which may have been moved or renamed.

        If no image of the source has one of the ids, the leading folder of the ids is replaced by
        another one: the folder with the most images whose hashes match (of a small sample), then
        the one where most ids are found, then the one with the longest common path.

        Args:
            source: The source that ``extract`` was given, or its new location; or several sources.
            ids: Ids of a store, without duplicates.
            policy: As the class's.
            hashes: As the class's.

        Raises:
            SourceError: The source can't be listed, has none of the images, or several of its
                folders match equally well.
        """
        requested = list(ids)
        records = track(open_source(source, labels="none").scan(), "listing", unit="files")
        available = {record.id: record for record in records}
        found = {name: available[name] for name in requested if name in available}
        found = found or _moved(requested, available, hashes or {})
        if not found:
            sources = [source] if isinstance(source, str | os.PathLike) else list(source)
            raise SourceError(
                f"{', '.join(map(str, sources))}: has none of the store's images, whose ids "
                f"are like {requested[0] if requested else 'nothing'}"
            )
        names = {record.id: name for name, record in found.items()}
        in_order = {names[place]: record for place, record in available.items() if place in names}
        return cls(in_order, policy, hashes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._records

    def __iter__(self) -> Iterator[str]:
        """The ids; members of an archive in archive order, which is the fastest to read."""
        return iter(self._records)

    def record(self, image_id: str) -> ImageRecord:
        """Where an image lies.

        Raises:
            KeyError: It isn't in the source.
        """
        return self._records[image_id]

    def expected_hash(self, image_id: str) -> bytes | None:
        """SHA-256 that an image must have; None if it isn't checked."""
        return None if self._hashes is None else self._hashes.get(image_id)

    def read(self, image_id: str) -> bytes:
        """The encoded image.

        Raises:
            DecodeError: It isn't in the source, can't be read, or has another hash.
        """
        record = self._records.get(image_id)
        if record is None:
            raise DecodeError(image_id, "isn't in the source")
        data = self._reader.read(record)
        expected = self.expected_hash(image_id)
        if expected is not None and sha256(data).digest() != expected:
            raise DecodeError(image_id, "isn't the image that was embedded: its bytes are others")
        return data

    def __call__(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels, ``(H, W, 3)`` uint8 RGB, upright.

        Raises:
            DecodeError: As ``decode``'s.
        """
        return np.asarray(self.decode(image_id))

    def decode(self, image_id: str) -> Image:
        """The image, RGB, upright.

        Raises:
            DecodeError: As ``read``'s, or it can't be decoded.
        """
        return decode_image(self.read(image_id), image_id, self.policy).image


def refuse_missing_images(ids: Sequence[str], roots: Sequence[Path]) -> None:
    """Refuses images of which not one is there, before work begins whose page would show them.

    Args:
        ids: Ids of a store.
        roots: The folders that relative ids may start from; see ``possible_folders``.

    Raises:
        SourceError: Neither a file nor an archive of them exists.
    """
    places = (place_of(archive_of(name, roots) or name, roots) for name in ids)
    if len(ids) and not any(map(_is_there, places)):
        raise SourceError(_none_found(ids, roots))


def _none_found(ids: Sequence[str], roots: Sequence[Path]) -> str:
    tried = " or ".join(str(root.absolute()) for root in roots)
    return (
        f"none of the {len(ids)} images was found, such as {ids[0]} in {tried}; images=FOLDER says "
        "where they are now"
    )


def _is_there(place: str) -> bool:
    """Whether a file exists; a URL isn't tried."""
    try:
        return is_url(place) or Path(place).exists()
    except (OSError, ValueError):
        return False


def _moved(
    requested: Sequence[str], available: Mapping[str, ImageRecord], hashes: Mapping[str, bytes]
) -> dict[str, ImageRecord]:
    """The records of ids whose folder was moved or renamed.

    Raises:
        SourceError: Two folders match equally well.
    """
    by_name = defaultdict(list)
    for other in available:
        by_name[other.rpartition("/")[2]].append(other)
    votes: Counter[tuple[str, str]] = Counter()
    for name in requested[:: max(len(requested) // _TRIED_IDS, 1)]:
        namesakes = by_name[name.rpartition("/")[2]]
        votes.update(_folders(name, other) for other in namesakes[:_TRIED_NAMESAKES])
    folders = [folders for folders, _ in votes.most_common(_TRIED_FOLDERS)]
    found = {folders: _replaced(requested, available, *folders) for folders in folders}
    right = {f: _right(found[f], hashes) if len(found) > 1 else 0 for f in folders}
    ranks = {f: (-right[f], -len(found[f]), len(f[0])) for f in folders}
    folders.sort(key=ranks.__getitem__)
    if len(folders) > 1 and ranks[folders[0]] == ranks[folders[1]]:
        raise SourceError(
            f"{folders[0][1]} and {folders[1][1]} could both be where the store's images, such as "
            f"{requested[0]}, are now: give only the right folder, or give it its old name"
        )
    return found[folders[0]] if folders else {}


def _right(found: Mapping[str, ImageRecord], hashes: Mapping[str, bytes]) -> int:
    """How many of the first few images found have the hash of the embedded image."""
    right = 0
    with ImageReader(max_bytes=DecodePolicy().max_bytes) as reader:
        for name in [name for name in found if name in hashes][:_TRIED_IMAGES]:
            try:
                right += sha256(reader.read(found[name])).digest() == hashes[name]
            except DecodeError:
                continue  # not a match
    return right


def _folders(name: str, other: str) -> tuple[str, str]:
    """The leading folders of two paths, without their common tail."""
    mine, theirs = name.split("/"), other.split("/")
    pairs = zip(reversed(mine), reversed(theirs), strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    tail = len("/".join(mine[len(mine) - alike :]))
    return name[: len(name) - tail], other[: len(other) - tail]


def _replaced(
    requested: Iterable[str], available: Mapping[str, ImageRecord], old: str, new: str
) -> dict[str, ImageRecord]:
    """The records of ids that begin with ``old``, after replacing it with ``new``."""
    named = ((name, new + name[len(old) :]) for name in requested if name.startswith(old))
    return {name: available[now] for name, now in named if now in available}
