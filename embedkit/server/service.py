"""All that lives as long as the service: indexes, queries, review, counters, threads."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from embedkit.server.explore import Explorer
from embedkit.server.indexes import Indexes
from embedkit.server.metrics import Metrics
from embedkit.server.pictures import Pictures
from embedkit.server.query_cache import QueryCache
from embedkit.server.review.desk import ReviewDesk
from embedkit.server.sessions import Sessions
from embedkit.utils.threads import usable_cores, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.server.served_index import ServedIndex
    from embedkit.server.settings import ServerSettings

__all__ = ["Service"]

_log = logging.getLogger("embedkit")
_Result = TypeVar("_Result")


class Service:
    """What the routes work with.

    Attributes:
        settings: Its settings.
        metrics: What it counts.
        indexes: The indexes.
        queries: The last queries.
        sessions: Who signed in.
        review: The near-duplicates under review; None if there are none.

    Args:
        settings: Its settings.

    Raises:
        EmbedkitError: An index or the near-duplicates can't be opened.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        secret = hashlib.sha256(f"embedkit items {settings.token or ''}".encode()).digest()
        self.indexes = Indexes(
            settings.indexes, secret, settings.embedder, settings.queue, self.metrics
        )
        self.queries = QueryCache()
        self.sessions = Sessions(settings.token)
        self.secret = secret
        self.review = (
            None
            if settings.dups is None
            else ReviewDesk(settings.dups, settings.images, show_paths=settings.show_paths)
        )
        self._pool = ThreadPoolExecutor(usable_cores() + 2, "embedkit-serve", use_one_thread)
        self._pictures: weakref.WeakKeyDictionary[ServedIndex, Pictures] = (
            weakref.WeakKeyDictionary()
        )
        self._explorers: weakref.WeakKeyDictionary[ServedIndex, Explorer] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads the backbones, and begins to look for changed indexes."""
        loading = asyncio.to_thread(self.indexes.start)
        self._tasks.append(asyncio.create_task(loading))
        if self.settings.reload_every:
            self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """Ends what runs, and closes everything."""
        self._tasks.pop().cancel() if self.settings.reload_every else None
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Closes everything."""
        self._pool.shutdown(cancel_futures=True)
        for explorer in list(self._explorers.values()):
            explorer.close()
        for pictures in list(self._pictures.values()):
            pictures.close()
        self.indexes.close()
        if self.review is not None:
            self.review.close()

    async def run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Runs a function in a thread that computes."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def pictures(self, served: ServedIndex) -> Pictures:
        """The images of an index."""
        with self._lock:
            if served not in self._pictures:
                self._pictures[served] = Pictures(served, self.settings.images)
            return self._pictures[served]

    def explorer(self, served: ServedIndex) -> Explorer:
        """The map and the lists of an index."""
        with self._lock:
            if served not in self._explorers:
                self._explorers[served] = Explorer(served)
            return self._explorers[served]

    def public(self, message: str) -> str:
        """A message without the paths of what is served, unless paths are shown."""
        if self.settings.show_paths:
            return message
        settings = self.settings
        for lease in self.indexes.leases:
            for path in (lease.served.path, *lease.served.store_paths):
                for text in (str(path.absolute()), str(path)):
                    message = message.replace(text, path.name)
        for path in (*settings.images, *([settings.dups] if settings.dups else [])):
            for text in (str(path.absolute()), str(path)):
                message = message.replace(text, path.name)
        return message

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reload_every)
            try:
                await asyncio.to_thread(self.indexes.reload)
            except Exception:  # the service goes on with what is open
                _log.exception("looking for changed indexes failed")
