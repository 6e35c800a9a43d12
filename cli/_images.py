"""The option of commands that show images: where these lie now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ImagesOption"]

ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="For thumbnails: the folder (or other source) where the images lie now; repeat it for "
        "several. [default: where their ids say]",
    ),
]
