"""Logs how long each step of a command took."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["timed"]

_log = logging.getLogger("embedkit")


@contextmanager
def timed(step: str, *args: object) -> Iterator[None]:
    """Logs a step and its seconds at level DEBUG, when it ends without an error.

    Args:
        step: What is done, with ``%s`` for each of ``args``.
        *args: Values of the text.
    """
    began = time.monotonic()
    yield
    _log.debug(f"{step}: %.2f s", *args, time.monotonic() - began)
