"""The entry point: the commands, what they share, and what an error looks like."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from . import demo, export, extract, index, info, merge, models, search, verify
from ._output import ExitCode, plain
from ._quick import QuickCommand, QuickGroup

__all__ = ["app", "run"]

app = typer.Typer(
    name="embedkit",
    help="Embeddings of images: extract, store, check, search, deduplicate.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EMBEDKIT"},
)
for _command in (models, extract, info, verify, merge, export, search, demo):
    app.command(_command.NAME, cls=QuickCommand)(_command.command)
app.add_typer(index.app, name=index.NAME)


class _PlainFormatter(logging.Formatter):
    """Messages may name files, and files may have any name."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def _show_version(wanted: bool) -> None:
    if wanted:
        from embedkit._version import __version__

        typer.echo(f"embedkit {__version__}")
        raise typer.Exit


@app.callback(cls=QuickGroup)
def _common(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors, no progress.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of defaults: a table a command, keys as the options' names.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    del version
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logger = logging.getLogger("embedkit")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level)
    context.obj = {"quiet": quiet}
    if config is not None:
        context.default_map = _read_config(config)


def _read_config(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise typer.BadParameter(f"{path}: not valid TOML: {exc}") from exc
    return _read_tables(path, "", tables, typer.main.get_command(app))


def _read_tables(path: Path, prefix: str, tables: dict[str, Any], group: Any) -> dict[str, Any]:
    """The defaults of a group's commands: ``[extract]``, and in a group ``[dedup.find]``."""
    defaults: dict[str, Any] = {}
    for name, table in tables.items():
        command = group.commands.get(name)
        if command is None or not isinstance(table, dict):
            raise typer.BadParameter(f"{path}: [{prefix}{name}] is no command of embedkit")
        if hasattr(command, "commands"):
            defaults[name] = _read_tables(path, f"{prefix}{name}.", table, command)
            continue
        defaults[name] = {key.replace("-", "_"): value for key, value in table.items()}
        unknown = set(defaults[name]) - {parameter.name for parameter in command.params}
        if unknown:
            told = ", ".join(sorted(unknown))
            raise typer.BadParameter(f"{path}: [{prefix}{name}] has no option {told}")
    return defaults


def run() -> None:
    """Runs the command line; expected errors become one line and an exit code."""
    from embedkit.errors import EmbedkitError

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as exc:
        typer.echo(f"embedkit: {plain(exc.format_message())} (--help tells more)", err=True)
        code = exc.exit_code
    except (EmbedkitError, ValueError) as exc:
        typer.echo(f"embedkit: error: {plain(' '.join(str(exc).split()))}", err=True)
        code = ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("embedkit: interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `embedkit models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    sys.exit(code or 0)
