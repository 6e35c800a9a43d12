"""Options of the commands that hand work to a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from ._panels import PERFORMANCE

__all__ = ["RayOption", "RayWorkersOption"]

RayOption = Annotated[
    str | None,
    typer.Option(
        help="Let a Ray cluster do the work: local (this machine), auto (the cluster that it "
        "belongs to), or an address.",
        metavar="ADDRESS",
        rich_help_panel=PERFORMANCE,
    ),
]
RayWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Ray workers, at most [default: one per machine].",
        rich_help_panel=PERFORMANCE,
    ),
]
