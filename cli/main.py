"""The entry point: the commands, what they share, and what an error looks like."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import typer

from ._lazy import LazyGroup
from ._output import ExitCode, plain

__all__ = ["app", "run"]


class _ReaderGoneError(Exception):
    """The reader of our output has gone, as in ``embedkit models | head``."""


class _Embedkit(LazyGroup):
    summaries: ClassVar = {
        "models": "List the backbones: size, accuracy, licence.",
        "extract": "Embed images into a store; go on where it stopped.",
        "info": "Tell what a store is, and what failed and why.",
        "verify": "Check every byte and count of stores.",
        "merge": "Merge stores of one backbone into one file.",
        "export": "Write a store as Parquet, npy, LanceDB, or for PyTorch.",
        "index": "Build, measure and change an index for search.",
        "search": "Find the images that are nearest to each query.",
        "dedup": "Find copies of images, and decide what becomes of them.",
        "classify": "Tell the likeliest ImageNet classes of each image.",
        "evaluate": "Compare the classes with labels: top-1 and top-5.",
        "select": "List the best images of each class.",
        "probe": "Measure how well embeddings tell classes apart.",
        "plot": "Draw a store as a map, as HTML or PNG.",
        "outliers": "Find off-topic images and doubtful labels.",
        "demo": "Embed, search, classify, find copies: a first look.",
    }

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; typer itself would end without a word, or as if there was an error."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            raise typer.Abort from exc
        except BrokenPipeError as exc:
            raise _ReaderGoneError from exc


app = typer.Typer(
    name="embedkit",
    help="Embeddings of images: extract, store, check, search, deduplicate.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EMBEDKIT"},
)


class _PlainFormatter(logging.Formatter):
    """Messages may name files, and files may have any name."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def _show_version(wanted: bool) -> None:
    if wanted:
        from embedkit._version import __version__

        typer.echo(f"embedkit {__version__}")
        raise typer.Exit


@app.callback(cls=_Embedkit)
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
        from ._defaults import read_defaults

        context.default_map = read_defaults(config, cast(LazyGroup, context.command).commands)


def run() -> None:
    """Runs the command line; expected errors become one line and an exit code."""
    from embedkit.errors import EmbedkitError

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as exc:
        typer.echo(f"embedkit: {plain(exc.format_message())} (--help tells more)", err=True)
        code = exc.exit_code
    except (EmbedkitError, ValueError) as exc:
        typer.echo(f"embedkit: error: {plain(' '.join(str(exc).split()))}", err=True)
        code = ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("embedkit: interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except (_ReaderGoneError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    sys.exit(code or 0)
