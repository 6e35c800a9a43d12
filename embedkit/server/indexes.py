"""The indexes that are served: opened anew when they change, while the old one still answers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError
from embedkit.index.manifest import MANIFEST
from embedkit.retrieval.query_embedder import QueryEmbedder
from embedkit.server.duplicate_check import CopyFinder
from embedkit.server.embedding_queue import EmbeddingQueue
from embedkit.server.explore import Explorer
from embedkit.server.failure import RequestError
from embedkit.server.pictures import Pictures
from embedkit.server.served_index import ServedIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedkit.server.metrics import Metrics
    from embedkit.server.settings import ServerSettings

__all__ = ["Indexes", "Lease"]

_log = logging.getLogger("embedkit")
_MANY = 1_000_000  # images that a service embeds, or more
_Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(slots=True)
class Lease:
    """A generation of an index, and how many requests use it.

    Attributes:
        served: The index.
        queue: Embeds images for it.
        pictures: Its images.
        explorer: Its map and lists.
        copies: Finds copies of new images in it.
        stamp: Its files when it was opened.
        users: Requests that use it now.
        is_old: Whether a newer generation took its place.
        problem: Why the newest files can't be opened; None if they are open.
    """

    served: ServedIndex
    queue: EmbeddingQueue
    pictures: Pictures
    explorer: Explorer
    copies: CopyFinder
    stamp: _Stamp
    users: int = 0
    is_old: bool = False
    problem: str | None = None

    def close(self) -> None:
        """Closes all of it but the queue, which other generations use too."""
        self.explorer.close()
        self.copies.close()
        self.pictures.close()
        self.served.close()


class Indexes:
    """Several indexes, by name; the first one is the default.

    Args:
        settings: Which ones, and how images are read and embedded.
        secret: Keys the opaque names of images.
        metrics: Counts.

    Raises:
        EmbedkitError: One can't be opened.
    """

    def __init__(
        self,
        settings: ServerSettings,
        secret: bytes,
        metrics: Metrics,
    ) -> None:
        self._settings, self._secret, self._metrics = settings, secret, metrics
        self._lock = threading.Lock()
        self._queues: list[tuple[ServedIndex, EmbeddingQueue]] = []
        self._leases: dict[str, Lease] = {}
        paths = settings.indexes
        try:
            for path, name in zip(paths, _names(paths), strict=True):
                self._leases[name] = self._open(path, name, 1)
        except BaseException:
            self.close()
            raise

    @property
    def leases(self) -> list[Lease]:
        """The newest generation of each index."""
        return list(self._leases.values())

    @contextmanager
    def use(self, name: str | None = None) -> Iterator[Lease]:
        """Lends an index, which stays open meanwhile.

        Args:
            name: Its name; None is the first one.

        Raises:
            RequestError: 404; there is none of that name.
        """
        with self._lock:
            lease = self._leases.get(next(iter(self._leases)) if name is None else name)
            if lease is None:
                raise RequestError(404, "there is no such index; /v1/indexes lists them")
            lease.users += 1
        try:
            yield lease
        finally:
            with self._lock:
                lease.users -= 1
                is_over = lease.is_old and lease.users == 0
            if is_over:
                lease.close()

    def reload(self) -> None:
        """Opens each index anew whose files changed; where that fails the old one stays."""
        for name, lease in list(self._leases.items()):
            stamp = _stamp(lease.served)
            if stamp == lease.stamp:
                continue
            path, number = lease.served.path, lease.served.generation + 1
            try:
                new = self._open(path, name, number)
            except (EmbedkitError, OSError, ValueError) as exc:
                lease.stamp, lease.problem = stamp, " ".join(str(exc).split())
                self._metrics.reloads.labels("failed").inc()
                _log.warning(
                    "%s: changed, but can't be opened; the old one is served: %s", path, exc
                )
                continue
            self._metrics.reloads.labels("done").inc()
            _log.info("%s: changed; opened anew with %d images", path, len(new.served))
            with self._lock:
                self._leases[name], lease.is_old = new, True
                is_over = lease.users == 0
            if is_over:
                lease.close()
            if not new.queue.is_ready:
                new.queue.start()

    def start(self) -> None:
        """Loads the backbones; takes seconds."""
        for _, queue in self._queues:
            queue.start()

    @property
    def is_ready(self) -> bool:
        """Whether all backbones are loaded, or can't be."""
        return all(q.is_ready or q.problem for _, q in self._queues)

    def close(self) -> None:
        """Embeds what waits, and closes everything."""
        for _, queue in self._queues:
            queue.close()
        for lease in self._leases.values():
            lease.close()

    def _open(self, path: Path, name: str, generation: int) -> Lease:
        served = ServedIndex.open(path, name, generation, self._secret)
        self._metrics.set_images(name, int(served.live.sum()))
        pictures = Pictures(served, self._settings.images)
        return Lease(
            served,
            self._queue_of(served),
            pictures,
            Explorer(served),
            CopyFinder(served, pictures),
            _stamp(served),
        )

    def _queue_of(self, served: ServedIndex) -> EmbeddingQueue:
        """The queue of indexes that were embedded alike; made if there is none."""
        meta = served.index.meta
        for other, queue in self._queues:
            if not other.index.meta.differences(meta):
                return queue
        embedder = QueryEmbedder(served.index, self._settings.embedder, images=_MANY)
        queue = EmbeddingQueue(embedder, meta, self._settings.queue, self._metrics)
        self._queues.append((served, queue))
        return queue


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its base name, numbered where two have the same."""
    totals = Counter(path.name for path in paths)
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        seen[path.name] += 1
        names.append(path.name if totals[path.name] == 1 else f"{path.name}-{seen[path.name]}")
    return names


def _stamp(served: ServedIndex) -> _Stamp:
    """What tells whether the files of an index or its stores changed."""
    files = [served.path, *served.store_paths]
    return tuple(one for path in files if (one := _file_stamp(path)) is not None)


def _file_stamp(path: Path) -> tuple[str, int, int, int] | None:
    if path.is_dir():
        path = path / MANIFEST  # of an index; that of a store of several shards has the same name
    try:
        status = path.stat()
    except OSError:
        return None  # gone, or being replaced
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns
