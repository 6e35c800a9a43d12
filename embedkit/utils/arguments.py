"""Checks and normalises the numbers that public functions and classes are called with."""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, cast

import numpy as np

__all__ = ["plain_numbers"]

_Called = TypeVar("_Called")
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
}


def plain_numbers(called: _Called) -> _Called:
    """Has a function, or the constructor of a class, take NumPy's scalars as Python's numbers.

    NumPy's integers, floats, booleans and strings become Python's, in lists, tuples and
    dictionaries too: values from pandas, ``np.arange`` or a grid of parameters serve as arguments.

    Args:
        called: A function or a class. Annotations as ``int``, ``float``, or one of them ``| None``
            are checked.

    Returns:
        The function, wrapped; or the class itself.

    Raises:
        ValueError: When called: an argument is no integer, or no number, where it should be one.
    """
    if isinstance(called, type):
        constructor: Any = called
        constructor.__init__ = _wrapped(constructor.__init__)
        return cast("_Called", called)
    return cast("_Called", _wrapped(called))


def _wrapped(function: Any) -> Any:
    kinds = _kinds(function)
    names = list(signature(function).parameters)

    @wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        plain = [_plain(value) for value in args]
        named = {name: _plain(value) for name, value in settings.items()}
        for name, value in (*zip(names, plain, strict=False), *named.items()):
            if name in kinds:
                _check(name, value, kinds[name])
        return function(*plain, **named)

    return call


def _kinds(function: Any) -> dict[str, str]:
    """``int`` or ``float`` by the name of each parameter that is annotated so."""
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    found = {
        name: str(one.annotation).removesuffix(" | None")
        for name, one in signature(function).parameters.items()
        if one.kind not in variable
    }
    return {name: kind for name, kind in found.items() if kind in _KINDS}


def _check(name: str, value: Any, kind: str) -> None:
    types, words = _KINDS[kind]
    if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
        raise ValueError(f"{name} must be {words}, not {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple) and any(isinstance(one, np.generic) for one in value):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    return value
