"""Compares the fields of a dataclass, as they came from a file, with their types."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["check_fields"]


def check_fields(instance: Any) -> None:
    """Checks a dataclass of counts, measurements and names.

    Args:
        instance: The dataclass; its annotations can be resolved in its module.

    Raises:
        TypeError: A field has another type than its annotation, or is a number that isn't finite
            or is less than 0.
    """
    kind: Any = type(instance)
    hints = _hints(kind)
    for field in fields(instance):
        value = getattr(instance, field.name)
        if not _fits(value, hints[field.name]):
            raise TypeError(f"{field.name} is {value!r:.60}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in args)
    if origin is Literal:
        return isinstance(value, str | int) and value in args
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, args[0]) and _fits(one, args[1]) for key, one in value.items()
        )
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, args[0]) for one in value)
    if hint in (None, NoneType):
        return value is None
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return type(value) in kinds and 0 <= value < math.inf
    return isinstance(value, hint)
