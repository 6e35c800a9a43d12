"""What every command shares: the common options, the layout of its help, and its errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from ._deleted_folder import leave_deleted_folder
from ._messages import to_flags, with_urls
from ._output import plain, print_message
from ._progress import showing_progress

__all__ = ["Command", "CommandError", "Group", "JsonOption", "Settings", "examples"]

_COMMON = "Common"
_PRINTING = {"help", "version", "install_completion", "show_completion"}
_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_COMMON)
]


class CommandError(Exception):
    """An expected error of a command, in the words of the command line."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The common options of a run, given before or after the command."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False


class Command(TyperCommand):
    """A command with the common options."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        _prepare(self, settings.get("callback"))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments; the common options go to the context's ``obj``."""
        rest = super().parse_args(ctx, args)
        json = _apply_settings(ctx).json
        if "json" in [option.name for option in _options(self.params)]:
            ctx.params["json"] = json
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Runs the command.

        Raises:
            CommandError: An expected error of the library.
        """
        from embedkit.errors import EmbedkitError
        from embedkit.utils.timing import timed

        try:
            assert self.callback is not None
            leave_deleted_folder(self.callback, self.params, ctx.params)
            if "backbone" in ctx.params:
                from embedkit.backbones.registry import check_name

                check_name(ctx.params["backbone"])  # at once, whatever the command loads first
            name = ctx.command_path
            with timed("%s, all in all", name), showing_progress(quiet=ctx.obj.quiet):
                return super().invoke(ctx)
        except (EmbedkitError, ValueError) as exc:
            raise CommandError(to_flags(with_urls(str(exc)), self.params)) from exc

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns all parameters, those that typer adds too."""
        return _complete(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the words of the usage line after the command's name."""
        del ctx
        return ["[OPTIONS]", *map(_usage_of, _arguments(self.params))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments and the options, by sections."""
        _format_options(self, ctx, formatter)


class Group(TyperGroup):
    """A group of commands with the common options; without a command it prints its help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _prepare(self, settings.get("callback"))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments before the command's name."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        rest = super().parse_args(ctx, args)
        _apply_settings(ctx)
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns all parameters, those that typer adds too."""
        return _complete(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options, by sections, and the commands."""
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands with the first paragraph of their help."""
        del ctx
        rows = [(name, _summary(one.help or "")) for name, one in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def examples(*lines: str) -> str:
    """Returns the end of a command's help: lines to copy."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def _summary(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def _prepare(command: Any, callback: Callable[..., Any] | None) -> None:
    """Names the types of the options, and adds the common options."""
    hints = {} if callback is None else get_type_hints(callback)
    for option in _options(command.params):
        if option.metavar is None and option.name in hints:
            option.metavar = _metavar(hints[option.name])
    present = {one.name for one in command.params}
    command.params += [one for one in _common_options() if one.name not in present]


def _complete(params: list[Any]) -> list[Any]:
    """Keeps the environment variables out of the help, and away from flags that only print."""
    for option in _options(params):
        option.show_envvar = False
        if option.name in _PRINTING:
            option.allow_from_autoenv = False
            option.rich_help_panel = _COMMON
        if option.name == "help":
            option.help = "Show this help and exit."
    return params


def _options(params: Iterable[Any]) -> list[Any]:
    return [one for one in params if one.param_type_name == "option"]


def _arguments(params: Iterable[Any]) -> list[Any]:
    return [one for one in params if one.param_type_name == "argument"]


def _metavar(hint: Any) -> str | None:
    """``INTEGER`` for ``int``, ``int | None`` or ``list[int]``; ``[a|b]`` for an enumeration."""
    if get_origin(hint) in (list, Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
        return _metavar(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"[{'|'.join(str(one.value) for one in hint)}]"
    return _METAVARS.get(hint)


@cache
def _common_options() -> tuple[Any, ...]:
    alone = typer.Typer(add_completion=False)
    alone.command()(_common)
    return tuple(_options(typer.main.get_command(alone).params))


def _use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes the defaults of a file, before the other options are read."""
    if path is None or context.resilient_parsing:
        return path
    from ._defaults import read_defaults

    names: list[str | None] = []
    at: Any = context
    while at.parent is not None:
        names.insert(0, at.info_name)
        at = at.parent
    tables = read_defaults(path, at.command.commands)
    for name in names:
        tables = tables.get(str(name), {})
    context.default_map = {**(context.default_map or {}), **tables}
    return path


def _common(
    json: JsonOption = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print warnings and errors only, no progress.",
            rich_help_panel=_COMMON,
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step.", rich_help_panel=_COMMON)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Read defaults from a TOML file: one table per command, options as keys.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            is_eager=True,
            callback=_use_config,
            rich_help_panel=_COMMON,
        ),
    ] = None,
) -> None:
    del json, quiet, verbose, config


def _apply_settings(context: Any) -> Settings:
    """Takes the common options out of a context, and joins them with those given before."""
    before = context.obj if isinstance(context.obj, Settings) else Settings()
    given = {name: context.params.pop(name, False) for name in ("quiet", "verbose", "json")}
    context.params.pop("config", None)
    joined = {name: getattr(before, name) or bool(value) for name, value in given.items()}
    context.obj = settings = Settings(**joined)
    if not context.resilient_parsing:
        _set_up_logging(settings)
    return settings


class _MessageHandler(logging.Handler):
    """Prints log messages to the stderr of the moment, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record; its message may name files, and files may have any name."""
        try:
            print_message(plain(self.format(record)))
        except Exception:
            self.handleError(record)


def _set_up_logging(settings: Settings) -> None:
    logger = logging.getLogger("embedkit")
    logger.handlers, logger.propagate = [_MessageHandler()], False
    level = logging.DEBUG if settings.verbose else logging.INFO
    logger.setLevel(logging.WARNING if settings.quiet else level)


def _usage_of(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _format_options(command: Any, ctx: Any, formatter: Any) -> None:
    params = command.get_params(ctx)
    arguments = [(_usage_of(one).strip("[]"), one.help or "") for one in _arguments(params)]
    if arguments:
        with formatter.section("Arguments"):
            formatter.write_dl(arguments)
    panels: dict[str, list[tuple[str, str]]] = {"Options": []}
    for option in _options(params):
        record = option.get_help_record(ctx)
        if record is not None:
            panels.setdefault(option.rich_help_panel or "Options", []).append(record)
    common = panels.pop(_COMMON, [])
    for title, records in {**panels, _COMMON: common}.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
