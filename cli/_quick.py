"""Commands that don't import pydantic for values that need no conversion.

Typer hands every value to pydantic, whose import takes longer than all that ``embedkit models``
does. Here what is of the right type already passes as it is, and so do names of files; all else,
numbers and choices given as text, goes typer's way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

__all__ = ["QuickCommand", "QuickGroup"]


class _Conversion:
    """Converts a parameter's value, if need be by what typer makes for it."""

    def __init__(self, make_typers: Callable[[], Any]) -> None:
        self._make_typers = make_typers

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """Returns the value that the command gets, as typer's own ``coerce`` does."""
        quick = _convert(value, param)
        return (
            self._make_typers().coerce(value, param=param, ctx=ctx) if quick is None else quick[0]
        )


def _convert(value: Any, param: Any) -> tuple[Any] | None:
    """The converted value, or None where only typer can tell."""
    told = param.type_descriptor
    if told.is_ranged:
        return None
    if told.annotation == list[str]:
        good = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return (list(value),) if good else None
    if value is None or type(value) is told.annotation:
        return (value,)
    if told.annotation is Path and isinstance(value, str | Path):
        return None if _is_checked(value, told.parameter_info) else (Path(value),)
    return None


def _is_checked(path: str | Path, wanted: Any) -> bool:
    """Whether typer may have something to say against a path, or changes it."""
    kinds = wanted.file_okay and wanted.dir_okay and not wanted.path_type
    if wanted.exists or wanted.writable or wanted.resolve_path or not kinds:
        return True
    return os.path.lexists(path) and not os.access(path, os.R_OK)


class _QuickOption(TyperOption):
    def get_runtime_param(self) -> Any:
        return _Conversion(super().get_runtime_param)


class _QuickArgument(TyperArgument):
    def get_runtime_param(self) -> Any:
        return _Conversion(super().get_runtime_param)


def _quickened(params: list[Any]) -> list[Any]:
    """Makes options and arguments, which typer alone can create, quick ones."""
    for param in params:
        if type(param) is TyperOption:
            param.__class__ = _QuickOption
        elif type(param) is TyperArgument:
            param.__class__ = _QuickArgument
    return params


class QuickCommand(TyperCommand):
    """A command with quick parameters."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns all parameters, the help option too."""
        return _quickened(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """A group of commands with quick parameters of its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns all parameters, the help option too."""
        return _quickened(super().get_params(ctx))
