"""The option of commands that take only some images of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from ._panels import INPUT

__all__ = ["COLUMNS", "FilterOption"]

COLUMNS = (
    "label=cat, path=*/cats/*, format=PNG, camera=Canon* (or !=), width>=300, height, nbytes, "
    "aspect, sharpness, luminance, entropy, gray and so on (= != < <= > >=), or a column that "
    "'annotate' put in; or selection:NAME, as 'serve' names them; repeatable, all must hold."
)

FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", help=f"Take only images with {COLUMNS}", rich_help_panel=INPUT),
]
