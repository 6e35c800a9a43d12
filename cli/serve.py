"""``embedkit serve``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._embedding import StoreBatchOption, WeightsFileOption
from ._output import plain, print_json, print_message
from ._panels import INPUT, PERFORMANCE
from .extract import EngineName

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit serve photos.index",
    "embedkit serve photos.h5 --dups duplicates/ --images photos/",
    "embedkit serve photos.index --host 0.0.0.0 --token-file token.txt --allow-host photos.lan",
)

_ACCESS, _LIMITS = "Access", "Limits"


def command(
    indexes: Annotated[
        list[Path], typer.Argument(help="Index or store; several are allowed.", metavar="INDEX...")
    ],
    dups: Annotated[
        Path | None,
        typer.Option(
            help="Folder of 'dedup find' to review; decisions and plans are written into it.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder (or other source) of the images; repeatable [default: the paths in the "
            "ids].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at; any but this machine's own needs a token.",
            rich_help_panel=_ACCESS,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, help="Port, up to 65535; 0: a free one.", rich_help_panel=_ACCESS)
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that clients need. Other users of this machine can see it in the list of "
            "processes: prefer --token-file, or the variable EMBEDKIT_TOKEN.",
            rich_help_panel=_ACCESS,
            show_envvar=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token.", rich_help_panel=_ACCESS)
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name under which browsers reach the service; repeatable.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    show_paths: Annotated[
        bool,
        typer.Option(
            "--show-paths",
            help="Show whole ids, which are paths, and allow filters on them.",
            rich_help_panel=_ACCESS,
        ),
    ] = False,
    max_upload: Annotated[
        int, typer.Option(min=1, help="Largest request (MB).", rich_help_panel=_LIMITS)
    ] = 64,
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images that may wait to be embedded; more are refused (503).",
            rich_help_panel=_LIMITS,
        ),
    ] = 256,
    rate: Annotated[
        float,
        typer.Option(
            min=0,
            help="Searches per second for each client on another machine; more are refused (429); "
            "0: no limit.",
            rich_help_panel=_LIMITS,
        ),
    ] = 50.0,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Open connections.", rich_help_panel=_LIMITS)
    ] = 1000,
    reload: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds between two looks for a changed index; 0: never.",
            rich_help_panel=_LIMITS,
        ),
    ] = 2.0,
    weights: WeightsFileOption = "auto",
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Inference engine; auto: OpenVINO on a CPU, PyTorch on CUDA.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = EngineName.AUTO,
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    batch_size: StoreBatchOption = None,
    json: JsonOption = False,
) -> None:
    """Serve a search page and an HTTP API, until interrupted.

    The page finds similar images, reviews near-duplicates and shows the map, clusters and quality
    lists. A changed index is opened anew without a pause. Other machines get in only with --host
    and a token.
    """
    from embedkit.retrieval.query_embedder import EmbedderConfig
    from embedkit.server.settings import ServerSettings
    from embedkit.utils.extras import require_extra

    require_extra("uvicorn", "serve", "the search service")
    from embedkit.server.run import serve

    settings = ServerSettings(
        indexes,
        dups=dups,
        images=images or (),
        host=host,
        port=port,
        token=_token(token, token_file),
        allowed_hosts=allow_host or (),
        show_paths=show_paths,
        max_upload=max_upload * 10**6,
        queue=queue,
        rate=rate,
        max_connections=max_connections,
        reload_every=reload,
        embedder=EmbedderConfig(weights, engine.value, device, batch_size),
    )

    def show(address: str) -> None:
        if json:
            print_json({"address": address}, indent=None)
            sys.stdout.flush()
        else:
            print_message(f"serving at {plain(address)}; Ctrl-C stops it")

    with suppress(KeyboardInterrupt):
        serve(settings, show)
    print_message("stopped")


def _token(token: str | None, file: Path | None) -> str | None:
    from embedkit.errors import EmbedkitError

    if file is not None:
        try:
            token = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "not UTF-8"
            raise EmbedkitError(f"{file}: can't be read: {reason}") from exc
    return token or os.environ.get("EMBEDKIT_TOKEN") or None
