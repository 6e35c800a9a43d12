"""Runs work in threads and yields the results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from embedkit.utils.threads import library_threads, usable_cores, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["in_order", "in_single_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Generator[tuple[_Item, _Result]]:
    """Calls ``function`` on the items in ``workers`` threads; yields the results in order.

    At most two items per worker are running or waiting, whatever the number of items. When the
    iterator is closed, what is running is waited for and the rest is dropped. The libraries' own
    threads are limited meanwhile (see ``embedkit.utils.threads``).
    """
    window = 2 * workers
    pending: deque[tuple[_Item, Future[_Result]]] = deque()
    pool = ThreadPoolExecutor(workers, "embedkit", use_one_thread)
    with library_threads(max(1, usable_cores() // workers)):
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) >= window:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_single_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Generator[tuple[_Item, _Result]]:
    """As `in_order`, in one thread per core with one library thread in each."""
    with closing(in_order(function, items, usable_cores())) as done:
        yield from done
