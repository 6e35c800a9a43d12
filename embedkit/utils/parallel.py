"""Runs work in threads and yields the results in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, TypeVar

from embedkit.utils.threads import library_threads, usable_cores, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["begin_thread", "check_cancelled", "in_order", "in_single_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_POLL_SECONDS = 0.25
_GRACE_SECONDS = 2.0  # from being asked to stop to leaving what runs
_work = threading.local()


def in_order(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    stop: threading.Event | None = None,
) -> Generator[tuple[_Item, _Result]]:
    """Calls ``function`` on the items in ``workers`` threads; yields the results in order.

    At most two items per worker are running or waiting, whatever the number of items. When the
    iterator is closed, what is running is cancelled (see `check_cancelled`) and waited for, and the
    rest is dropped. The libraries' own threads are limited meanwhile (see
    ``embedkit.utils.threads``).

    Args:
        function: Called in several threads at once.
        items: Its arguments.
        workers: Number of threads.
        stop: Once it is set, the next result is waited for two seconds at most.

    Raises:
        concurrent.futures.CancelledError: ``stop`` is set, and the next result isn't there.
    """
    window = 2 * workers
    pending: deque[tuple[_Item, Future[_Result]]] = deque()
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(workers, "embedkit", begin_thread, (cancelled,))
    with library_threads(max(1, usable_cores() // workers)):
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) >= window:
                    done, future = pending.popleft()
                    yield done, _result(future, stop)
            while pending:
                done, future = pending.popleft()
                yield done, _result(future, stop)
        finally:
            cancelled.set()
            pool.shutdown(wait=True, cancel_futures=True)


def check_cancelled() -> None:
    """Ends the work of the calling thread if nobody waits for its result any more.

    Raises:
        concurrent.futures.CancelledError: The pool of the thread has set its ``cancelled``: see
            `begin_thread`.
    """
    cancelled: threading.Event | None = getattr(_work, "cancelled", None)
    if cancelled is not None and cancelled.is_set():
        raise CancelledError


def begin_thread(cancelled: threading.Event) -> None:
    """Prepares a thread of a pool, whose work ends at `check_cancelled` once ``cancelled`` is set.

    It computes alone; see ``use_one_thread``.
    """
    _work.cancelled = cancelled
    use_one_thread()


def _result(future: Future[_Result], stop: threading.Event | None) -> _Result:
    if stop is None:
        return future.result()
    until = None
    while not future.done():
        with suppress(TimeoutError):
            return future.result(_POLL_SECONDS)
        if stop.is_set():
            until = until or time.monotonic() + _GRACE_SECONDS
            if time.monotonic() > until:
                raise CancelledError
    return future.result()


def in_single_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Generator[tuple[_Item, _Result]]:
    """As `in_order`, in one thread per core with one library thread in each."""
    with closing(in_order(function, items, usable_cores())) as done:
        yield from done
