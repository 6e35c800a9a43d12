"""``embedkit merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import count_of, plain, print_json

__all__ = ["command"]


def command(
    stores: Annotated[list[Path], typer.Argument(help="Stores: files or folders of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The one file to write.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Merge stores of one backbone into one file; what was embedded otherwise is refused."""
    from embedkit.store import EmbeddingStore, merge

    merge(stores, output, overwrite=overwrite)
    with EmbeddingStore.open(output) as store:
        counts = store.counts
    if json:
        print_json({"store": str(output), "embedded": counts.embedded, "failed": counts.failed})
    else:
        told = f"{count_of(counts.embedded, 'embedding')} of {count_of(len(stores), 'store')}"
        typer.echo(f"{plain(output)}: {told}")
