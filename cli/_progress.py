"""Progress of a command: one place for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["showing_progress"]


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[None]:
    """Shows the progress of all that the library does within, on stderr; nothing when quiet."""
    from embedkit.utils.progress import reporting

    with reporting(not quiet):
        yield
