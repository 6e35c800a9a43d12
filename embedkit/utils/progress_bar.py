"""Progress on stderr: a bar on a terminal and in a notebook, else a line every 30 seconds."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Self

from embedkit.utils.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from embedkit.utils.progress import Progress

__all__ = ["ProgressBar"]

_LINE_SECONDS = 30.0  # between two lines where stderr is no terminal
_BAR_SECONDS = 0.1  # between two updates of the bar
_TICK_SECONDS = 1.0  # until the time is shown anew though nothing was reported


class ProgressBar:
    """Shows stage, done/total, rate, failures and the time left.

    A stage that reports nothing for long, such as the training of an index, shows its time.
    """

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._lock = threading.RLock()
        self._latest: Progress | None = None
        self._received = self._shown = monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None

    def update(self, progress: Progress) -> None:
        """Shows some progress; the bar goes when its stage is complete."""
        with self._lock:
            is_new = self._latest is None or self._latest.stage != progress.stage
            self._latest, self._received = progress, monotonic()
            self._start_ticking()
            if not self._is_live:
                self._print_if_due()
            elif progress.done == progress.total:
                self._remove()
            elif is_new or self._bar is None or self._received - self._shown >= _BAR_SECONDS:
                self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Removes the bar."""
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            self._remove()

    def _start_ticking(self) -> None:
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                if not self._is_live:
                    self._print_if_due()
                elif self._bar is not None:
                    self._draw()

    def _print_if_due(self) -> None:
        if self._latest is not None and monotonic() - self._shown >= _LINE_SECONDS:
            self._shown = monotonic()
            name, text = self._described(self._latest)
            with suppress(OSError):  # a full disk behind stderr doesn't end the work
                sys.stderr.write(f"{name}: {text}\n")
                sys.stderr.flush()

    def _draw(self) -> None:
        assert self._latest is not None
        self._shown, total = monotonic(), self._latest.total
        name, text = self._described(self._latest)
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(name, total=total, text=text)
            self._bar.start()
        assert self._task is not None
        done = self._latest.done
        self._bar.update(self._task, description=name, completed=done, total=total, text=text)
        self._bar.refresh()

    def _remove(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _described(self, progress: Progress) -> tuple[str, str]:
        seconds = progress.seconds + monotonic() - self._received
        return printable(progress.stage), _describe(replace(progress, seconds=seconds))


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # results of a pipe stay on stdout
    )


def _describe(progress: Progress) -> str:
    """``1,200/5,000 images, 310.2 images/s, 2 failed, 0:12 left``."""
    unit, rate, done, total = progress.unit, progress.rate, progress.done, progress.total
    if unit == "bytes":
        unit, rate, done = "MB", rate / 1e6, round(done / 1e6)
        total = None if total is None else round(total / 1e6)
    of = "" if total is None else f"/{total:,}"
    parts = [f"{done:,}{of} {unit}".rstrip()] if done or total else []
    if rate > 0 and unit:
        parts.append(f"{rate:,.1f} {unit}/s")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    left = progress.remaining
    if left is None:
        parts.append(f"{_duration(progress.seconds)} so far")
    else:
        parts.append(f"{_duration(left)} left" + (" at most" if progress.may_end_early else ""))
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
