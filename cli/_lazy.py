"""Commands whose modules are imported when they are called."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.main

from ._command import Command, Group

__all__ = ["LazyGroup"]


class LazyGroup(Group):
    """A group that knows its commands by name, and imports the module of the one that is called.

    A command's module has the command's name, and holds a function ``command`` with its
    ``EXAMPLES``, or a group of commands, a ``typer.Typer`` named ``group``.
    """

    summaries: ClassVar[dict[str, str]]
    """Name to summary of every command, in the order of the help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.summaries)

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of the commands without importing them."""
        del ctx
        return list(self.summaries)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


class _Commands(MutableMapping[str, Any]):
    """Commands by name, each created on first access."""

    def __init__(self, names: dict[str, str]) -> None:
        self._made: dict[str, Any] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made[name] = _make(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _make(name: str) -> Any:
    module = import_module(f"{__package__}.{name.replace('-', '_')}")
    if hasattr(module, "group"):
        return typer.main.get_group(module.group)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=Command, epilog=module.EXAMPLES)(module.command)
    return typer.main.get_command(alone)
