"""Reads images that are whole files or URLs; the base class of all readers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedkit.errors import DecodeError, SourceError
from embedkit.sources.io import storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.types import ImageRecord

__all__ = ["FileReader", "KindReader", "decode_errors"]


@contextmanager
def decode_errors(record: ImageRecord, *errors: type[Exception]) -> Iterator[None]:
    """Turn whatever reading one image raises into a ``DecodeError`` that names it.

    Args:
        record: The image.
        errors: Exceptions of this kind of archive, besides ``OSError``, ``ValueError`` and
            ``SourceError`` (a URL of an unknown scheme).

    Raises:
        DecodeError: The block raised one of them.
    """
    caught: tuple[type[Exception], ...] = (OSError, ValueError, SourceError, *errors)
    try:
        yield
    except caught as exc:
        nbytes = exc.nbytes if isinstance(exc, storage.TooLargeError) else None
        raise DecodeError(record.id, storage.reason_of(exc), nbytes=nbytes) from exc


class KindReader(ABC):
    """Reads the images of one kind of record; used by many threads at once.

    Args:
        max_bytes: Larger images are refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    @abstractmethod
    def read(self, record: ImageRecord) -> bytes:
        """Return the image's bytes.

        Raises:
            DecodeError: It can't be read, or is over the limit.
        """

    @abstractmethod
    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the image's first ``n`` bytes, fewer where it is shorter.

        Raises:
            DecodeError: It can't be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""


class FileReader(KindReader):
    """Reads whole files and URLs."""

    def read(self, record: ImageRecord) -> bytes:
        """Return the file's bytes."""
        with decode_errors(record):
            return storage.read_whole(record.path, self.max_bytes)

    def peek(self, record: ImageRecord, n: int) -> bytes:
        """Return the file's first ``n`` bytes."""
        with decode_errors(record):
            return storage.read_range(record.path, 0, n)

    def close(self) -> None:
        """Nothing stays open."""
