"""The images of an index as a browser shows them: thumbnails and originals."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.decode.exact import decode_image
from embedkit.decode.thumbnail import thumbnail_jpeg
from embedkit.errors import SourceError
from embedkit.extraction.source_images import OriginalImages, policy_of
from embedkit.sources.id_lookup import archive_of, find_originals
from embedkit.sources.naming import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.server.served_index import ServedIndex
    from embedkit.types import ImageRecord

__all__ = ["BrowserImage", "Pictures"]

_THUMBNAIL_BYTES = 64 * 2**20
_SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True, slots=True)
class BrowserImage:
    """An image that a browser shows.

    Attributes:
        data: The encoded image.
        media_type: Its type.
    """

    data: bytes
    media_type: str


class Pictures:
    """Reads the images of an index; thumbnails are kept in bounded memory.

    An image that isn't the one that was embedded isn't shown.

    Args:
        served: The index.
        images: The sources that the images are of, where these lie now; empty takes the ids for
            paths. They are listed when the first image is asked for.
    """

    def __init__(self, served: ServedIndex, images: Sequence[Path]) -> None:
        self._served, self._images = served, tuple(images)
        self._policy = policy_of(served.index.meta)
        self._lock = threading.Lock()
        self._opened: OriginalImages | None = None
        self._records: Mapping[str, ImageRecord] = {}
        self._thumbnails: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._nbytes = 0

    def has(self, row: int) -> bool:
        """Whether the image of a row can be found; its bytes aren't read."""
        name = self._served.ids([row])[0]
        _ = self.originals
        record = self._records.get(name)
        if record is None:
            return False
        return not is_url(record.path) and Path(record.path).is_file()

    def thumbnail(self, row: int, side: int) -> bytes:
        """A JPEG whose longer side is at most ``side`` pixels.

        Raises:
            DecodeError: The image can't be read or decoded any more, or is another by now.
        """
        with self._lock:
            if (found := self._thumbnails.get((row, side))) is not None:
                self._thumbnails.move_to_end((row, side))
                return found
        name = self._served.ids([row])[0]
        made = thumbnail_jpeg(self.originals.decode(name), side)
        with self._lock:
            if (row, side) not in self._thumbnails:
                self._thumbnails[row, side] = made
                self._nbytes += len(made)
            while self._nbytes > _THUMBNAIL_BYTES:
                self._nbytes -= len(self._thumbnails.popitem(last=False)[1])
        return made

    def original(self, row: int) -> BrowserImage:
        """The image's own file if a browser shows its format, else a PNG of its pixels.

        Raises:
            DecodeError: The image can't be read or decoded any more, or is another by now.
        """
        name = self._served.ids([row])[0]
        data = self.originals.read(name)
        decoded = decode_image(data, name, self._policy)  # refuses what only claims to be an image
        if decoded.format in _SHOWN:
            return BrowserImage(data, _SHOWN[decoded.format])
        file = io.BytesIO()
        decoded.image.save(file, "PNG")
        return BrowserImage(file.getvalue(), "image/png")

    def close(self) -> None:
        """Closes the readers."""
        with self._lock:
            if self._opened is not None:
                self._opened.__exit__()

    @property
    def originals(self) -> OriginalImages:
        """Reads the images by their ids.

        Raises:
            DecodeError: From its methods; an image can't be read, or is another by now.
        """
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> OriginalImages:
        hashes = _Hashes(self._served)
        if not self._images:
            self._records = _Records(self._served)
            return OriginalImages(self._records, self._policy, hashes)
        names = list(self._served.ids(range(len(self._served))))
        try:
            opened = OriginalImages.of_source(self._images, names, self._policy, hashes)
        except SourceError:  # no image is found; the page says so of each
            return OriginalImages({}, self._policy, hashes)
        self._records = {name: opened.record(name) for name in opened}
        return opened


class _Hashes(Mapping[str, bytes]):
    """SHA-256 of an index's images by their ids, found when they are needed."""

    def __init__(self, served: ServedIndex) -> None:
        self._served = served

    def __getitem__(self, name: str) -> bytes:
        row = int(self._served.rows_of([name])[0])
        if row < 0:
            raise KeyError(name)
        return bytes(self._served.hashes[row])

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[str]:
        return iter(self._served.ids(range(len(self))))


class _Records(Mapping[str, "ImageRecord"]):
    """Where images lie by their ids, found when they are needed; an archive is listed once.

    What lies behind a URL isn't there: the service loads nothing from elsewhere.
    """

    def __init__(self, served: ServedIndex) -> None:
        self._served, self._roots = served, served.index.meta.folders()
        self._lock = threading.Lock()
        self._archives: dict[str, dict[str, ImageRecord]] = {}

    def __getitem__(self, name: str) -> ImageRecord:
        archive = archive_of(name, self._roots)
        if archive is None:
            found = next(find_originals([name], self._roots))[1]
        else:
            with self._lock:
                if archive not in self._archives:
                    self._archives[archive] = self._members(archive)
            found = self._archives[archive][name]
        if is_url(found.path):
            raise KeyError(name)
        return found

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[str]:
        return iter(self._served.ids(range(len(self))))

    def _members(self, archive: str) -> dict[str, ImageRecord]:
        names = [name for name in self if name.startswith(archive)]
        return dict(find_originals(names, self._roots))
