"""Progress of long steps: code counts in a `Stage`, and the callback of the moment is called.

The callback is set by `reporting`, around a call; the functions in between don't pass it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Progress", "ProgressCallback", "Stage", "reporting", "silent", "track"]

_Item = TypeVar("_Item")
_TRACK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of one stage of a call.

    Attributes:
        stage: What is being done, such as ``embedding``.
        done: What is finished, in units; what an interrupted run had finished counts too.
        total: What there is to do; None if that isn't known.
        failed: How many of the finished ones failed.
        seconds: Seconds since the stage began.
        rate: Units per second in this stage.
        unit: What is counted, such as ``images``; may be empty.
        may_end_early: Whether the stage may end before all is done.
    """

    stage: str
    done: int
    total: int | None = None
    failed: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    unit: str = ""
    may_end_early: bool = False

    @property
    def remaining(self) -> float | None:
        """Estimated seconds until all of the stage is done; None if that isn't known."""
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0) / self.rate


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called with the progress whenever it changes."""

_callback: ContextVar[ProgressCallback | None] = ContextVar("embedkit_progress", default=None)


class Stage:
    """Counts one stage; every change is reported to the callback of the thread that made it.

    As a context manager it is complete at its end: ``done`` equals ``total`` then.

    Args:
        name: As ``Progress.stage``.
        total: As ``Progress.total``.
        unit: As ``Progress.unit``.
        done: What was finished before, which doesn't count in the rate.
        failed: How many of them failed.
        may_end_early: As ``Progress.may_end_early``.
    """

    def __init__(
        self,
        name: str,
        total: int | None = None,
        *,
        unit: str = "",
        done: int = 0,
        failed: int = 0,
        may_end_early: bool = False,
    ) -> None:
        self._call = _callback.get()
        self._name, self._unit, self._total = name, unit, total
        self._may_end_early = may_end_early
        self._done, self._before, self._failed = done, done, failed
        self._began = time.monotonic()
        self._report()

    def add(self, count: int = 1, *, failed: int = 0) -> None:
        """Counts what is finished, and how many of it failed."""
        self._done += count
        self._failed += failed
        self._report()

    def update(self, done: int, *, total: int | None = None, failed: int | None = None) -> None:
        """Sets what is finished; the total and the failures too unless they are None."""
        self._done = done
        self._total = self._total if total is None else total
        self._failed = self._failed if failed is None else failed
        self._report()

    @property
    def progress(self) -> Progress:
        """The progress now."""
        seconds = time.monotonic() - self._began
        rate = (self._done - self._before) / seconds if seconds > 0 else 0.0
        return Progress(
            self._name, self._done, self._total, self._failed, seconds, rate, self._unit,
            self._may_end_early,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._done != self._total:
            self._total = self._done = max(self._done, self._total or 0)
            self._report()

    def _report(self) -> None:
        if self._call is not None:
            self._call(self.progress)


def track(
    items: Iterable[_Item],
    name: str,
    total: int | None = None,
    *,
    unit: str = "",
    size: Callable[[_Item], int] | None = None,
) -> Iterator[_Item]:
    """Yields the items and counts them in a stage, when they have been dealt with.

    For many small items: reports ten times per second.

    Args:
        items: The items.
        name: As ``Progress.stage``.
        total: As ``Progress.total``.
        unit: As ``Progress.unit``.
        size: How much an item counts; None counts 1.
    """
    if _callback.get() is None:
        yield from items
        return
    with Stage(name, total, unit=unit) as stage:
        waiting, reported = 0, time.monotonic()
        for item in items:
            yield item
            waiting += 1 if size is None else size(item)
            if time.monotonic() - reported >= _TRACK_SECONDS:
                stage.add(waiting)
                waiting, reported = 0, time.monotonic()
        if waiting:
            stage.add(waiting)


@contextmanager
def reporting(progress: bool | ProgressCallback) -> Iterator[None]:
    """Reports the stages within.

    Args:
        progress: A callback, which is called in addition to that of an outer call; True shows a bar
            on stderr, if no outer call reports already; False adds nothing.
    """
    outer = _callback.get()
    if progress is False or (progress is True and outer is not None):
        yield
    elif progress is True:
        from embedkit.utils.progress_bar import ProgressBar

        with ProgressBar() as bar, reporting(bar.update):
            yield
    else:
        token = _callback.set(progress if outer is None else _both(outer, progress))
        try:
            yield
        finally:
            _callback.reset(token)


@contextmanager
def silent() -> Iterator[None]:
    """Reports no stage within: the caller counts these parts itself."""
    token = _callback.set(None)
    try:
        yield
    finally:
        _callback.reset(token)


def _both(outer: ProgressCallback, inner: ProgressCallback) -> ProgressCallback:
    def call(progress: Progress) -> None:
        outer(progress)
        inner(progress)

    return call
