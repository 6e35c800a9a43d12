"""Progress of an index build."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IndexProgress", "Reporter", "Stage"]

Stage = Literal["train", "add", "tune", "write"]


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Progress of an index build.

    Attributes:
        stage: ``train``, ``add``, ``tune`` or ``write``.
        done: Finished part of the stage: rows, or measured settings.
        total: Total of the stage.
        seconds: Seconds since the stage began.
    """

    stage: Stage
    done: int
    total: int
    seconds: float


class Reporter:
    """Calls a progress callback, if there is one."""

    def __init__(self, on_progress: Callable[[IndexProgress], None] | None) -> None:
        self._call = on_progress
        self._stage: Stage | None = None
        self._began = 0.0

    def tell(self, stage: Stage, done: int, total: int) -> None:
        """Reports the progress of a stage; the time of a new stage starts now."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began = stage, now
        if self._call is not None:
            self._call(IndexProgress(stage, done, total, now - self._began))
