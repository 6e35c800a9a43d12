"""What texts of a CSV file are values of: integers, floats, booleans."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.types import AnnotationKind

__all__ = ["BOOLEANS", "IS_KIND"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_FLOAT = re.compile(
    r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|-?inf", re.ASCII | re.IGNORECASE
)
BOOLEANS = {"true": 1, "false": 0}
"""Booleans as lower-case texts."""


def _is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and abs(int(text)) <= -(MISSING_INTEGER + 1)


def _is_float(text: str) -> bool:
    if text.removeprefix("-").isdigit():
        return _is_integer(text)
    return _FLOAT.fullmatch(text) is not None


IS_KIND: dict[AnnotationKind, Callable[[str], bool]] = {
    "boolean": lambda text: text.lower() in BOOLEANS,
    "integer": _is_integer,
    "float": _is_float,
}
"""Whether a text of a CSV file is a value of a kind, the strictest kind first. A number with
leading zeros, or of more digits than an integer holds, stays text."""
