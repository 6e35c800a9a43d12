"""The option of commands that show thumbnails: where the images are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._panels import OUTPUT

__all__ = ["ImagesOption"]

ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="Folder (or other source) of the images, for thumbnails; repeatable "
        "[default: the paths in the ids].",
        rich_help_panel=OUTPUT,
    ),
]
