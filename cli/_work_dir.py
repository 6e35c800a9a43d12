"""The option of the commands that can write to a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._panels import OUTPUT

__all__ = ["WorkDirOption"]

WorkDirOption = Annotated[
    Path | None,
    typer.Option(
        "--work-dir",
        help="Folder for unfinished work, if the output is a URL [default: the cache folder].",
        rich_help_panel=OUTPUT,
    ),
]
