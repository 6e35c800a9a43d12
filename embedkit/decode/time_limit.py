"""Gives an image up that takes too long to decode.

A thread can't be ended from outside. One that is given up goes on in the background until its
codec returns; its result is dropped. A process that does nothing but decode ends instead.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from embedkit.errors import DecodeError, WorkerError
from embedkit.utils.parallel import check_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["IMAGE_SECONDS", "TIME_IS_UP", "decode_within", "ended_after", "too_slow"]

IMAGE_SECONDS = 60.0
"""How long the decoding of an image may take, unless it is stated otherwise."""
TIME_IS_UP = f"signal {int(getattr(signal, 'SIGALRM', 0))}"
"""How a process ends whose `ended_after` took too long, as `CrashedError` says it."""
_POLL_SECONDS = 0.25
_MAX_GIVEN_UP = 8  # each may hold the memory of a large image

_Result = TypeVar("_Result")


def decode_within(seconds: float, image_id: str, decode: Callable[[], _Result]) -> _Result:
    """What ``decode()`` returns or raises.

    Args:
        seconds: Time limit; 0 is none.
        image_id: Named in the error.
        decode: Called in another thread, where there is a limit.

    Raises:
        DecodeError: It takes longer.
        WorkerError: Too many images that were given up are still being decoded.
        concurrent.futures.CancelledError: The work of the calling thread was cancelled.
    """
    if not seconds:
        return decode()
    check_cancelled()
    try:
        helper = _idle.pop()
    except IndexError:
        helper = _new_helper(seconds)
    outcomes: SimpleQueue[tuple[_Result | None, BaseException | None]] = SimpleQueue()
    helper.calls.put(lambda: outcomes.put(_outcome(decode)))
    try:
        result, error = _wait(outcomes, seconds)
    except Empty:
        _given_up.add(helper.give_up())
        raise DecodeError(image_id, too_slow(seconds)) from None
    except BaseException:
        _given_up.add(helper.give_up())
        raise
    _idle.append(helper)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Ends this process by a signal if the block takes longer: no codec can keep it from that.

    The signal's handler must be the default one. Not for Windows.

    Args:
        seconds: Time limit; 0 is none.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def too_slow(seconds: float) -> str:
    """The reason of such a failure."""
    return f"took longer than {seconds:g} s to decode"


def _outcome(
    decode: Callable[[], _Result],
) -> tuple[_Result | None, BaseException | None]:
    try:
        return decode(), None
    except BaseException as exc:  # raised again in the thread that waits for it
        return None, exc


def _wait(
    outcomes: SimpleQueue[tuple[_Result | None, BaseException | None]], seconds: float
) -> tuple[_Result | None, BaseException | None]:
    """The outcome; waits in short steps, so that a pause of the whole process counts little."""
    while seconds > 0:
        step = min(seconds, _POLL_SECONDS)
        try:
            return outcomes.get(timeout=step)
        except Empty:
            check_cancelled()
            seconds -= step
    raise Empty


class _Helper:
    """A thread that makes one call after the other; it never keeps the process from ending."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="embedkit-decode", daemon=True)
        self._thread.start()

    def give_up(self) -> threading.Thread:
        """Ends the thread after its present call."""
        self.calls.put(None)
        return self._thread

    def _run(self) -> None:
        while (call := self.calls.get()) is not None:
            call()
            del call  # with its image


_idle: deque[_Helper] = deque()
_given_up: set[threading.Thread] = set()


def _new_helper(seconds: float) -> _Helper:
    for thread in [one for one in tuple(_given_up) if not one.is_alive()]:
        _given_up.discard(thread)
    if len(_given_up) >= _MAX_GIVEN_UP:
        raise WorkerError(
            f"{len(_given_up)} images that took longer than {seconds:g} s are still being decoded; "
            "decode in processes, which can be ended (processes=True)"
        )
    return _Helper()


def _forget() -> None:
    """A forked process has none of these threads."""
    _idle.clear()
    _given_up.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
