"""Progress on stderr: a bar on a terminal, else a line every 30 seconds."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING, Self

from ._output import plain, print_message

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from embedkit.extraction.runner import Progress
    from embedkit.index import IndexProgress

__all__ = ["ProgressDisplay"]

_log = logging.getLogger("embedkit")
_LINE_SECONDS = 30.0  # between two lines where stderr is no terminal
_BAR_SECONDS = 0.1  # between two updates of the bar


class ProgressDisplay:
    """Shows stage, done/total, images/s, failures and the time left; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._stage: str | None = None
        self._started = self._shown = monotonic()
        self._first = 0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def update(self, progress: Progress) -> None:
        """Shows the progress of an extraction."""
        self._show(
            "embedding",
            progress.done,
            progress.total,
            unit="images",
            failed=progress.failed,
            rate=progress.images_per_second,
        )

    def stage(self, progress: IndexProgress) -> None:
        """Shows the progress of an index build."""
        self._show(progress.stage, progress.done, progress.total)

    def images(self, done: int, total: int) -> None:
        """Shows the progress of a pass over stored images."""
        self._show("scoring", done, total, unit="images")

    def queries(self, done: int) -> None:
        """Shows the number of finished queries."""
        self._show("searching", done, None, unit="queries")

    def step(self, stage: str, done: int, total: int) -> None:
        """Shows the progress of one stage of several."""
        self._show(stage, done, total)

    def download(self, name: str, done: int, total: int | None) -> None:
        """Shows the progress of a download, in MB."""
        size = None if total is None else round(total / 1e6)
        self._show(f"downloading {name}", round(done / 1e6), size, unit="MB")

    def files(self, done: int) -> None:
        """Shows the number of finished files."""
        self._show("files", done, None, unit="files")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Removes the bar."""
        self._log_stage(monotonic())
        self._stage = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _show(
        self,
        stage: str,
        done: int,
        total: int | None,
        *,
        unit: str = "",
        failed: int = 0,
        rate: float | None = None,
    ) -> None:
        if self._quiet:
            return
        now, is_new = monotonic(), stage != self._stage
        if is_new:
            self._log_stage(now)
            self._stage, self._started, self._first = stage, now, done
        pause = _BAR_SECONDS if self._terminal else _LINE_SECONDS
        is_due = now - self._shown >= pause or (self._terminal and (is_new or done == total))
        if not is_due:
            return
        self._shown = now
        if rate is None:
            elapsed = now - self._started
            rate = (done - self._first) / elapsed if elapsed else 0.0
        text = _describe(done, total, unit, failed, rate)
        if self._terminal:
            self._draw(plain(stage), done, total, text)
        else:
            print_message(f"{stage}: {text}")

    def _log_stage(self, now: float) -> None:
        """Logs the stage that has ended, and how long it took."""
        if self._stage is not None:
            _log.debug("%s: %.2f s", self._stage, now - self._started)

    def _draw(self, stage: str, done: int, total: int | None, text: str) -> None:
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(stage, total=total, text=text)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, description=stage, completed=done, total=total, text=text)
        self._bar.refresh()


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,  # no thread: processes may be forked
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # results of a pipe stay on stdout
    )


def _describe(done: int, total: int | None, unit: str, failed: int, rate: float) -> str:
    """``1,200/5,000 images, 310.2 images/s, 2 failed, 0:12 left``."""
    of = "" if total is None else f"/{total:,}"
    parts = [f"{done:,}{of} {unit}".rstrip()]
    if rate > 0 and unit:
        parts.append(f"{rate:,.1f} {unit}/s")
    if failed:
        parts.append(f"{failed:,} failed")
    if rate > 0 and total is not None:
        parts.append(f"{_duration((total - done) / rate)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
