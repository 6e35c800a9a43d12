"""The default progress callback, which does nothing."""

from __future__ import annotations

__all__ = ["ignore_progress"]


def ignore_progress(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""
