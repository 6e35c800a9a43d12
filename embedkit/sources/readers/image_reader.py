"""Reads the encoded bytes of any image record, from any kind of file."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from embedkit.errors import DecodeError
from embedkit.sources.io.storage import check_size, size_and_time
from embedkit.sources.readers.dataset import DatasetReader
from embedkit.sources.readers.file import FileReader, decode_errors
from embedkit.sources.readers.memory import MemoryReader
from embedkit.sources.readers.parquet import ParquetReader
from embedkit.sources.readers.tar import TarReader
from embedkit.sources.readers.zip import ZipReader

if TYPE_CHECKING:
    from types import TracebackType

    from embedkit.sources.readers.file import KindReader
    from embedkit.types import ImageRecord

__all__ = ["ImageReader"]

_READERS: dict[str, type[KindReader]] = {
    "file": FileReader,
    "tar": TarReader,
    "zip": ZipReader,
    "parquet": ParquetReader,
    "dataset": DatasetReader,
    "memory": MemoryReader,
}


class ImageReader:
    """Reads the bytes of images from their records alone; used by many threads at once.

    Archives stay open between reads, a few at a time. Records should come nearly in the order of
    the scan: compressed tars can only be read forward.

    Args:
        max_bytes: Larger images are refused before they are read, bytes.
    """

    def __init__(self, *, max_bytes: int = 256 * 2**20) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, not {max_bytes}")
        self.max_bytes = max_bytes
        self._lock = Lock()
        self._readers: dict[str, KindReader] = {}
        self._modified: dict[str, int] = {}  # of archives

    def read(self, record: ImageRecord) -> bytes:
        """Return the encoded bytes of one image.

        Args:
            record: A record from a scan or from a saved plan.

        Returns:
            The whole image; never a part of it.

        Raises:
            DecodeError: This image can't be read, or is over the limit.
            MissingExtraError: The record needs a library that isn't installed.
        """
        reader = self._reader(record)
        if record.nbytes is not None:
            with decode_errors(record):
                check_size(record.nbytes, self.max_bytes)
        return reader.read(record)

    def modified(self, record: ImageRecord) -> int:
        """When the file or archive of an image was changed last, nanoseconds since 1970.

        Returns:
            -1 where it isn't known.
        """
        if record.kind == "file":
            return size_and_time(record.path)[1]
        if record.path not in self._modified:
            self._modified[record.path] = size_and_time(record.path)[1]
        return self._modified[record.path]

    def peek(self, record: ImageRecord, n: int = 64) -> bytes:
        """Return the first bytes of one image, at little cost where the file allows it.

        Args:
            record: The image.
            n: How many bytes.

        Returns:
            ``n`` bytes, fewer where the image is shorter.

        Raises:
            DecodeError: This image can't be read.
            MissingExtraError: The record needs a library that isn't installed.
        """
        return self._reader(record).peek(record, n)

    def _reader(self, record: ImageRecord) -> KindReader:
        if record.problem is not None:
            raise DecodeError(record.id, record.problem)
        with self._lock:
            if record.kind not in self._readers:
                self._readers[record.kind] = _READERS[record.kind](self.max_bytes)
            return self._readers[record.kind]

    def close(self) -> None:
        """Close every archive that is open."""
        with self._lock:
            readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.close()

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
