"""The files and pixels of a store's images, by their ids."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.decode import DecodePolicy, decode_image
from embedkit.errors import DecodeError, SourceError, StoreFormatError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.originals import find_originals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.records import ImageRecord
    from embedkit.store import StoreMeta

__all__ = ["OriginalImages", "policy_of"]


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


class OriginalImages:
    """Reads and decodes images by id, in many threads; use it as a context manager.

    Args:
        records: Where each id's image lies.
        policy: Decoding limits and background; None is the default policy.
    """

    def __init__(
        self, records: Mapping[str, ImageRecord], policy: DecodePolicy | None = None
    ) -> None:
        self._policy = policy or DecodePolicy()
        self._records = records
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(ImageReader(max_bytes=self._policy.max_bytes))

    @classmethod
    def by_ids(cls, ids: Iterable[str], root: Path, policy: DecodePolicy | None = None) -> Self:
        """Takes each id for the path that it was.

        Args:
            ids: Of a store, each once.
            root: The folder that relative ids are below.
            policy: As the class's.
        """
        return cls(dict(find_originals(ids, root)), policy)

    @classmethod
    def of_source(
        cls,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        ids: Iterable[str],
        policy: DecodePolicy | None = None,
    ) -> Self:
        """Looks the ids up in a source, be it where it was or elsewhere by now.

        If it is one source and none of its images has one of the ids as they are, the folder that
        all the ids are in and the one that all the source's are in are left away, and the rest is
        compared.

        Args:
            source: What ``extract`` was given, or where that lies now; or several.
            ids: Of a store, each once.
            policy: As the class's.

        Raises:
            SourceError: The source can't be listed, or has none of the images.
        """
        wanted = list(ids)
        there = {record.id: record for record in open_source(source, labels="none").scan()}
        found = {name: there[name] for name in wanted if name in there}
        sources = [source] if isinstance(source, str | os.PathLike) else list(source)
        if not found and wanted and there and len(sources) == 1:
            mine, theirs = _folder_of(wanted), _folder_of(list(there))
            found = {
                name: there[theirs + name[len(mine) :]]
                for name in wanted
                if theirs + name[len(mine) :] in there
            }
        if not found:
            raise SourceError(
                f"{', '.join(map(str, sources))}: has none of the store's images, whose ids "
                f"are like {wanted[0] if wanted else 'nothing'}"
            )
        return cls(found, policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._records

    def read(self, image_id: str) -> bytes:
        """The encoded image.

        Raises:
            DecodeError: It isn't in the source, or can't be read.
        """
        record = self._records.get(image_id)
        if record is None:
            raise DecodeError(image_id, "isn't in the source")
        return self._reader.read(record)

    def __call__(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels, ``(H, W, 3)`` uint8 RGB, upright.

        Raises:
            DecodeError: It isn't in the source, or can't be read or decoded.
        """
        return np.asarray(decode_image(self.read(image_id), image_id, self._policy).image)


def _folder_of(ids: Sequence[str]) -> str:
    """What all ids begin with, up to a slash."""
    common = os.path.commonprefix([min(ids), max(ids)])  # noqa: RUF071  # cut at a slash below
    return common[: common.rfind("/") + 1]
