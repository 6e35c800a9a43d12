"""What the commands that embed a source share: how they are stopped, what an update changed."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from embedkit.extraction.runner import ExtractResult
    from embedkit.utils.progress import Progress

__all__ = ["Stopping", "changes"]

_ALARM: signal.Signals | None = getattr(signal, "SIGALRM", None)  # Windows has none
_AGAIN_SECONDS = 2.0
_STDERR = 2


class Stopping:
    """What Ctrl-C and SIGTERM do.

    Before the first image is embedded they end the program; then they ask for an orderly end, and
    a second one forces it.

    Attributes:
        event: Set when the run is to commit what is done and return.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._embedding = self._interrupted = False

    def on_progress(self, progress: Progress) -> None:
        """Takes note of the first embedded image: from then on there is something to commit."""
        from embedkit.extraction.runner import EMBEDDING

        if progress.stage == EMBEDDING and progress.done:
            self._embedding = True

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._interrupted and _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._interrupted and error is not None and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # that some library made another error of

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        if self._interrupted and number == _ALARM:
            raise KeyboardInterrupt
        if self.event.is_set() or not self._embedding:
            _say("interrupted")
            self._interrupted = True
            if _ALARM is not None:  # where a library calls back, Python drops the exception
                self._before[_ALARM] = signal.signal(_ALARM, self._on_signal)
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
            raise KeyboardInterrupt
        self.event.set()
        _say("stopping: committing what is done (again to stop at once)")


def _say(text: str) -> None:
    """Tells from a signal's handler, which may have interrupted a print: that can't begin again."""
    os.write(_STDERR, f"\n{text}\n".encode())


def changes(result: ExtractResult) -> str:
    """What an update changed, in front of the counts; nothing for an ordinary extraction."""
    from embedkit.extraction.update_outcome import UpdateResult

    if not isinstance(result, UpdateResult):
        return ""
    if not result.written:
        return "up to date, "
    again = f", {len(result.recovered):,} recovered" if result.recovered else ""
    lists = (("+", result.added), ("~", result.changed), ("-", result.removed))
    return " ".join(f"{sign}{len(names):,}" for sign, names in lists) + f"{again}; now "
