"""The entry point: the list of commands, and how errors are printed."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, ClassVar

import typer

from ._command import CommandError, examples
from ._lazy import LazyGroup
from ._output import ExitCode, plain
from ._renamed import current_name

__all__ = ["app", "run"]


class _ReaderGoneError(Exception):
    """The reader of our output has gone, as in ``embedkit models | head``."""


class _Embedkit(LazyGroup):
    summaries: ClassVar = {
        "models": "List the backbones: size, accuracy and licence.",
        "extract": "Embed images into a store; resumes an interrupted run.",
        "info": "Describe a store, and list what failed and why.",
        "verify": "Check every byte and count of stores.",
        "merge": "Merge stores of one backbone into one file.",
        "export": "Convert a store to Parquet, npy, LanceDB or one HDF5 file.",
        "index": "Build, measure and update an index for search.",
        "search": "Find the nearest images of an index for each query.",
        "dedup": "Find near-duplicates, review them, remove them.",
        "classify": "Print the most likely ImageNet classes per image.",
        "evaluate": "Measure top-1 and top-5 accuracy against labels.",
        "select": "List the highest-confidence images per class.",
        "probe": "Train and evaluate kNN and linear probes.",
        "plot": "Draw a store as a 2-D map, as HTML or PNG.",
        "outliers": "Find off-topic images and doubtful labels.",
        "demo": "Run embedding, search and deduplication on sample images.",
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
    help="Embed images, then search, deduplicate and analyse the embeddings.",
    epilog=examples(
        "embedkit extract photos/ -o photos.h5",
        "embedkit index build photos.h5 -o photos.index",
        "embedkit search photos.index query.jpg",
        "embedkit dedup find photos.h5 -o duplicates/",
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "EMBEDKIT",
        "token_normalize_func": current_name,
    },
)


def _show_version(requested: bool) -> None:
    if requested:
        from embedkit._version import __version__

        typer.echo(f"embedkit {__version__}")
        raise typer.Exit


@app.callback(cls=_Embedkit)
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    del version


def run() -> None:
    """Runs the command line; expected errors become one line and an exit code."""
    from embedkit.errors import EmbedkitError

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False, prog_name="embedkit")
        sys.stdout.flush()
    except typer.TyperException as exc:
        typer.echo(f"embedkit: {plain(exc.format_message())} (see --help)", err=True)
        code = exc.exit_code
    except (CommandError, EmbedkitError, ValueError) as exc:
        typer.echo(f"embedkit: error: {plain(' '.join(str(exc).split()))}", err=True)
        code = ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("embedkit: interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except (_ReaderGoneError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    sys.exit(code or 0)
