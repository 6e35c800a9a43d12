"""The TOML file of defaults: ``[extract]`` for a command, ``[index.build]`` inside a group."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ._renamed import current_name

__all__ = ["read_defaults"]


def read_defaults(path: Path, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options' values by command, as a context's ``default_map``.

    Raises:
        typer.BadParameter: The file isn't TOML, or names an unknown command or option.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except ValueError as exc:
        raise typer.BadParameter(f"{path}: not valid TOML: {exc}") from exc
    return {name: _table(path, name, table, commands) for name, table in tables.items()}


def _table(path: Path, title: str, table: Any, commands: Mapping[str, Any]) -> dict[str, Any]:
    command = commands.get(title.rpartition(".")[2])
    if command is None or not isinstance(table, dict):
        raise typer.BadParameter(f"{path}: [{title}] is not an embedkit command")
    if hasattr(command, "commands"):
        inner = command.commands
        return {
            name: _table(path, f"{title}.{name}", entry, inner) for name, entry in table.items()
        }
    values = {
        current_name(key.replace("_", "-")).replace("-", "_"): value for key, value in table.items()
    }
    unknown = sorted(set(values) - {parameter.name for parameter in command.params})
    if unknown:
        raise typer.BadParameter(f"{path}: [{title}] unknown option {', '.join(unknown)}")
    return values
