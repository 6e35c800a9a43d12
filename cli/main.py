"""The entry point: the list of commands, and how errors are printed."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Annotated, Any, ClassVar

import typer

from ._command import CommandError, examples
from ._lazy import LazyGroup
from ._output import ExitCode, plain, print_message
from ._renamed import current_name
from ._streams import open_streams, silence

__all__ = ["app", "run"]


_NO_MEMORY = ("failed to map segment", "bad_alloc", "annot allocate memory")


class _PipeError(Exception):
    """A broken pipe, under a name that typer doesn't take for its own business."""

    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__(str(error))
        self.error = error


class _Embedkit(LazyGroup):
    summaries: ClassVar = {
        "models": "List the backbones: size, accuracy and licence.",
        "extract": "Embed images into a store; resumes an interrupted run.",
        "watch": "Update a store and its indexes at intervals.",
        "info": "Describe a store, an index or another result; list failures.",
        "verify": "Check every byte and count of stores, indexes and other results.",
        "label": "Put labels into a store, without embedding again.",
        "annotate": "Put columns of a table into a store, for filters.",
        "merge": "Merge stores of one backbone into one file.",
        "export": "Convert a store to Parquet, npy, LanceDB, HDF5 or embedding-atlas.",
        "index": "Build, measure and update an index for search.",
        "search": "Find the nearest images of an index for each query.",
        "dedup": "Find near-duplicates, review them, remove them.",
        "serve": "Serve a search page and an HTTP API.",
        "classify": "Print the most likely ImageNet classes per image.",
        "evaluate": "Measure top-1 and top-5 accuracy against labels.",
        "cluster": "Group similar images into clusters, without labels.",
        "select": "List the best images per class, or a diverse subset.",
        "probe": "Train and evaluate kNN and linear probes.",
        "plot": "Draw a store as a 2-D map, as HTML or PNG.",
        "outliers": "Find off-topic images and doubtful labels.",
        "quality": "Find dark, blurry, odd and duplicate images, and failed files.",
        "demo": "Run embedding, search and deduplication on sample images.",
    }

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Reads the arguments; may print the help."""
        with _own_endings():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        with _own_endings():
            return super().invoke(ctx)


@contextmanager
def _own_endings() -> Iterator[None]:
    """Passes on what typer would end without a word, or as if there was an error."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise typer.Abort from exc
    except BrokenPipeError as exc:
        raise _PipeError(exc) from exc


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
    from embedkit.utils.working_directory import working_directory

    open_streams()
    if working_directory() is None:
        sys.path[:] = filter(None, sys.path)  # "" stands for it, and imports look into it
    try:
        with _interrupted_by(signal.SIGTERM):
            code = _flush(_run())
    except OSError as exc:  # what no command expects: a full disk, a broken drive
        where = "standard output" if _is_of_echo(exc) else exc.filename
        code = _fail(f"{where}: {exc.strerror}" if where else str(exc))
        silence(sys.stdout)
    except Exception as exc:  # a fault of ours, or of a library
        if _follows_interrupt(exc):
            print_message("embedkit: interrupted")
            sys.exit(ExitCode.INTERRUPTED)
        if logging.getLogger("embedkit").isEnabledFor(logging.DEBUG):
            raise
        if _lacks_memory(exc):
            sys.exit(_fail(f"not enough memory ({exc or 'MemoryError'}); what was saved is kept"))
        code = _fail(
            f"an error that embedkit doesn't expect: {type(exc).__name__}: {exc}; please report "
            "it, with what --verbose prints"
        )
    sys.exit(code or 0)


def _lacks_memory(error: Exception) -> bool:
    """Whether the system has refused memory, to Python or to a library that is loaded."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY)


def _follows_interrupt(error: BaseException | None) -> bool:
    """Whether an error came of an interrupt, such as one in the start of a thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    """Makes a signal end a command as Ctrl-C does, unless it is ignored already."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return
    signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _is_of_echo(error: OSError) -> bool:
    frames = walk_tb(error.__traceback__)
    return any(frame.f_code is typer.echo.__code__ for frame, _line in frames)


def _run() -> int | None:
    from embedkit.errors import EmbedkitError

    try:
        code: int | None = app(standalone_mode=False, prog_name="embedkit")
    except typer.TyperException as exc:
        print_message(f"embedkit: {plain(exc.format_message())} (see --help)")
        code = exc.exit_code
    except (CommandError, EmbedkitError, ValueError) as exc:
        code = _fail(str(exc))
    except (KeyboardInterrupt, typer.Abort):
        print_message("embedkit: interrupted")
        code = ExitCode.INTERRUPTED
    except _PipeError as exc:
        return _end_pipe(exc.error)
    return code


def _end_pipe(error: BrokenPipeError) -> ExitCode:
    """Ends well where the reader of our output has gone, as in ``embedkit models | head``."""
    if not _is_of_echo(error):  # some other pipe, such as to a worker
        raise error
    silence(sys.stdout)
    return ExitCode.DONE


def _fail(message: str) -> ExitCode:
    print_message(f"embedkit: error: {plain(' '.join(message.split()))}")
    return ExitCode.ERROR


def _flush(code: int | None) -> int | None:
    """Writes out what stdout holds; the exit code says whether that worked."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError as exc:
        silence(sys.stdout)
        return _fail(f"standard output: {exc.strerror}")
    return code
