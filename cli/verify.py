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
    "embedkit verify *.h5 photos.index --json",
)


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Stores, indexes, probes, folders of duplicates or calibrations."),
    ],
    json: JsonOption = False,
) -> None:
    """Check every byte, checksum and count; exit code 1 if anything is damaged."""
    from embedkit.utils.urls import display_name

    found = {display_name(path): _problems(path) for path in paths}
    if json:
        print_json([{"path": path, "problems": lines} for path, lines in found.items()])
    else:
        for path, lines in found.items():
            for line in lines or [f"{path}: no problems found"]:
                typer.echo(plain(line))
    if any(found.values()):
        raise typer.Exit(ExitCode.ERROR)


def _problems(path: Path) -> list[str]:
    from embedkit.errors import EmbedkitError
    from embedkit.store import verify
    from embedkit.store.detect import kind_of_path

    kind = kind_of_path(path)
    try:
        if kind == "index":
            from embedkit.index.verify import index_problems

            return index_problems(path)
        if kind == "probe":
            from embedkit import load_probe

            load_probe(path)
        elif kind == "duplicates":
            from embedkit import read_duplicates

            read_duplicates(path)
        elif kind == "calibration":
            from embedkit import Calibration

            Calibration.load(path)
        else:
            return verify(path)
    except EmbedkitError as exc:
        return [str(exc)]
    return []
