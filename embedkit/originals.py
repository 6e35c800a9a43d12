"""The pixels of a store's images, by their ids, from the source that they were embedded from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.decode import DecodePolicy, decode_image
from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, open_source

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Sequence

    from numpy.typing import NDArray

    from embedkit.records import ImageRecord

__all__ = ["OriginalImages"]


class OriginalImages:
    """Reads and decodes images by id, in many threads; use it as a context manager.

    Args:
        source: What ``extract`` was given, by the same path: ids are compared as they are.
        ids: Those that are wanted; others are not remembered.
        policy: Decoding limits and background; None is the default policy.

    Raises:
        SourceError: The source can't be listed, or has none of the images.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        ids: Container[str],
        policy: DecodePolicy | None = None,
    ) -> None:
        self._policy = policy or DecodePolicy()
        self._records: dict[str, ImageRecord] = {
            record.id: record
            for record in open_source(source, labels="none").scan()
            if record.id in ids
        }
        if not self._records:
            raise SourceError(
                f"{source}: none of its images is in the store; name it as it was embedded"
            )
        self._reader = ImageReader(max_bytes=self._policy.max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._reader.close()

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
