"""All that lives as long as the service: indexes, queries, review, counters, threads."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from embedkit.server.failure import RequestError
from embedkit.server.indexes import Indexes
from embedkit.server.metrics import Metrics
from embedkit.server.query_cache import QueryCache
from embedkit.server.review.desk import ReviewDesk
from embedkit.server.sessions import Sessions
from embedkit.utils.threads import library_threads, usable_cores, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.server.settings import ServerSettings

__all__ = ["Service"]

_log = logging.getLogger("embedkit")
_Result = TypeVar("_Result")
_MOST_SLOW = 16  # comparisons of pixels that may wait


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
        self.indexes = Indexes(settings, secret, self.metrics)
        self.queries = QueryCache()
        self.sessions = Sessions(settings.token)
        self.secret = secret
        self.review = (
            None
            if settings.dups is None
            else ReviewDesk(settings.dups, settings.images, show_paths=settings.show_paths)
        )
        self._pool = ThreadPoolExecutor(usable_cores() + 2, "embedkit-serve", use_one_thread)
        self._slow_pool = ThreadPoolExecutor(1, "embedkit-compare", use_one_thread)
        self._slow = 0
        self._stack = ExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads the backbones, and begins to look for changed indexes."""
        self._tasks.append(asyncio.create_task(asyncio.to_thread(self._load)))
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
        self._slow_pool.shutdown(cancel_futures=True)
        self.indexes.close()
        if self.review is not None:
            self.review.close()
        self._stack.close()

    async def run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Runs a function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def run_slowly(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Runs what takes seconds or minutes, one at a time, so that searches needn't wait.

        Raises:
            RequestError: 503; too much of this waits already.
        """
        if self._slow >= _MOST_SLOW:
            raise RequestError(503, "too many comparisons are waiting", {"Retry-After": "5"})
        self._slow += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._slow_pool, function, *args)
        finally:
            self._slow -= 1

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

    def _load(self) -> None:
        """Loads the backbones; then no library starts threads beside ours."""
        self.indexes.start()
        self._stack.enter_context(library_threads(1))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reload_every)
            try:
                await asyncio.to_thread(self.indexes.reload)
            except Exception:  # the service goes on with what is open
                _log.exception("looking for changed indexes failed")
