"""Options that had another name before; the old one still works and isn't shown."""

from __future__ import annotations

__all__ = ["current_name"]

_RENAMED = {"looks": "candidates-per-image", "decode": "decoder"}


def current_name(name: str) -> str:
    """Returns the present name of an option: ``candidates-per-image`` for ``looks``."""
    return _RENAMED.get(name, name)
