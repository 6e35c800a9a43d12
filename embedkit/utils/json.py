"""Converts values for JSON, which has no NaN and no infinity."""

from __future__ import annotations

from math import isfinite
from typing import Any

__all__ = ["finite"]


def finite(value: Any) -> Any:
    """The same dicts, lists and values, with None for each number that isn't finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
