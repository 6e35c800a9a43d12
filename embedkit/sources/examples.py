"""Counts names for a message, and keeps the first few of them."""

from __future__ import annotations

__all__ = ["Examples"]

_KEPT = 3


class Examples:
    """Names that a message counts: ``a.jpg, b.jpg, c.jpg and 17 more``.

    Attributes:
        count: How many were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, name: str) -> None:
        """Add a name."""
        self.count += 1
        if len(self._first) < _KEPT:
            self._first.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self._first)
        return ", ".join(self._first) + (f" and {more:,} more" if more else "")
