"""``embedkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._output import ExitCode, plain, print_json

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit verify photos.h5",
    "embedkit verify *.h5 --json",
)


def command(
    stores: Annotated[list[Path], typer.Argument(help="Stores: files or folders of shards.")],
    json: JsonOption = False,
) -> None:
    """Check every byte, checksum and count of stores; exit code 1 if any is damaged."""
    from embedkit.store import verify

    found = {str(path): verify(path) for path in stores}
    if json:
        print_json([{"store": path, "problems": lines} for path, lines in found.items()])
    else:
        for path, lines in found.items():
            for line in lines or [f"{path}: no problems found"]:
                typer.echo(plain(line))
    if any(found.values()):
        raise typer.Exit(ExitCode.ERROR)
