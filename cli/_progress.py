"""Progress of a command: one place for all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedkit.utils.progress import Progress

__all__ = ["showing_progress"]

_log = logging.getLogger("embedkit")


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[None]:
    """Shows the progress of all that the library does within, on stderr; nothing when quiet.

    Each stage is logged at level DEBUG when it has ended.
    """
    from embedkit.utils.progress import reporting

    stages = _StageLog()
    with reporting(not quiet), reporting(stages.update):
        yield
    stages.end()


class _StageLog:
    def __init__(self) -> None:
        self._last: Progress | None = None

    def update(self, progress: Progress) -> None:
        if self._last is not None and self._last.stage != progress.stage:
            self.end()
        self._last = progress

    def end(self) -> None:
        """Logs the stage that has ended: what it counted, and how long it took."""
        if self._last is not None:
            text = f"{self._last.stage}: {self._last.done:,} {self._last.unit}".rstrip()
            _log.debug("%s, %.2f s", text, self._last.seconds)
        self._last = None
