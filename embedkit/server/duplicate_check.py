"""Checks an uploaded image for known copies, as ``check_duplicates`` does."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from contextlib import ExitStack
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.dedup.check import DuplicateChecker
from embedkit.extraction.source_images import OriginalImages, policy_of
from embedkit.server.failure import RequestError
from embedkit.store import EmbeddingStore
from embedkit.store.detect import is_store
from embedkit.store.format import StoreCounts
from embedkit.store.writer import ShardContent, write_shard
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from embedkit.dedup.check import Match
    from embedkit.server.pictures import Pictures
    from embedkit.server.served_index import ServedIndex
    from embedkit.store import RowBlock

__all__ = ["CopyFinder"]


class CopyFinder:
    """Finds the images of an index that a new one is a copy of, one new image at a time.

    Args:
        served: The index.
        pictures: Its images, for the comparison of pixels.
    """

    def __init__(self, served: ServedIndex, pictures: Pictures) -> None:
        self._served, self._pictures = served, pictures
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def find(self, data: bytes, row: RowBlock) -> tuple[Match, ...]:
        """The matches, the best first; by pixels where OpenCV is installed.

        Args:
            data: The encoded image.
            row: The image, embedded.

        Raises:
            RequestError: 503; a store was changed, and isn't opened anew yet.
            StoreError: A store can't be read.
        """
        meta = self._served.index.meta
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.h5"
            with path.open("w+b") as file:
                write_shard(file, ShardContent(meta, StoreCounts(1, 0, 0), [row], (), False))
            name = row.ids[0].decode()
            with EmbeddingStore.open(path) as new:
                if find_spec("cv2") is None:
                    return self._checker.check(new).matches
                record = ImageRecord(name, name, "memory", named=True, data=data)
                hashes = {name: hashlib.sha256(data).digest()}
                with OriginalImages({name: record}, policy_of(meta), hashes) as mine:
                    known = [self._pictures.originals] * len(self._served.store_paths)
                    return self._checker.check(new, mine, known).matches

    def close(self) -> None:
        """Closes the stores, if they were opened."""
        with self._lock:
            self._stack.close()

    @cached_property
    def _checker(self) -> DuplicateChecker:
        """Reads the stores through files of its own: others needn't wait for it."""
        stores = []
        for known in self._served.metadata.stores:
            store = self._stack.enter_context(EmbeddingStore.open(known.path))
            if store.fingerprint != known.fingerprint:
                raise RequestError(503, "the index is being opened anew", {"Retry-After": "2"})
            stores.append(store)
        index = None if is_store(self._served.path) else self._served.index
        return DuplicateChecker(index, stores)
