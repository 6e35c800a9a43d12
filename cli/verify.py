"""``embedkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import ExitCode, plain, print_json

__all__ = ["command"]


def command(
    stores: Annotated[list[Path], typer.Argument(help="Stores: files or folders of shards.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every byte, checksum and count of stores; exit 1 and name what is damaged."""
    from embedkit.store import verify

    found = {str(path): verify(path) for path in stores}
    if json:
        print_json([{"store": path, "problems": lines} for path, lines in found.items()])
    else:
        for path, lines in found.items():
            for line in lines or [f"{path}: all is well"]:
                typer.echo(plain(line))
    if any(found.values()):
        raise typer.Exit(ExitCode.ERROR)
