"""Commands that are started in a folder that was deleted."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

__all__ = ["leave_deleted_folder"]

_NO_PATHS = {"ids"}  # arguments that are texts, and no paths


def leave_deleted_folder(
    function: Callable[..., Any], params: Iterable[Any], values: Mapping[str, Any]
) -> None:
    """Leaves a working directory that doesn't exist, in which some libraries end the process.

    Args:
        function: The command's, whose annotations say which values are paths.
        params: The command's parameters.
        values: Their values by name.

    Raises:
        ValueError: A path is relative to it.
    """
    from embedkit.utils.working_directory import working_directory

    if working_directory() is not None:
        return
    arguments = {one.name for one in params if one.param_type_name == "argument"} - _NO_PATHS
    hints = get_type_hints(inspect.unwrap(function))
    paths = {name for name, hint in hints.items() if _holds_paths(hint)}
    for name, value in values.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str | Path) and name in paths | arguments:
                _refuse_relative(os.fspath(one))
    os.chdir("/")


def _holds_paths(hint: Any) -> bool:
    return hint is Path or any(map(_holds_paths, get_args(hint)))


def _refuse_relative(path: str) -> None:
    from embedkit.sources.naming import is_url

    if not (path == "-" or is_url(path) or Path(path).is_absolute()):
        raise ValueError(
            f"{path}: the working directory was deleted, so that relative paths lead nowhere; "
            "change to a folder that exists, or give absolute paths"
        )
