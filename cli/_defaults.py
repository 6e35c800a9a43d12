"""The TOML file of defaults: ``[extract]`` for a command, ``[index.build]`` for one in a group."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

__all__ = ["read_defaults"]


def read_defaults(path: Path, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Reads options' values for ``commands``, as a context's ``default_map`` has them.

    Raises:
        typer.BadParameter: The file isn't TOML, or names a command or an option that isn't there.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise typer.BadParameter(f"{path}: not valid TOML: {exc}") from exc
    return {name: _table(path, name, table, commands) for name, table in tables.items()}


def _table(path: Path, title: str, table: Any, commands: Mapping[str, Any]) -> dict[str, Any]:
    command = commands.get(title.rpartition(".")[2])
    if command is None or not isinstance(table, dict):
        raise typer.BadParameter(f"{path}: [{title}] is no command of embedkit")
    if hasattr(command, "commands"):
        inner = command.commands
        return {name: _table(path, f"{title}.{name}", told, inner) for name, told in table.items()}
    values = {key.replace("-", "_"): value for key, value in table.items()}
    unknown = sorted(set(values) - {parameter.name for parameter in command.params})
    if unknown:
        raise typer.BadParameter(f"{path}: [{title}] has no option {', '.join(unknown)}")
    return values
