"""``embedkit models``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ._output import print_json, print_table

__all__ = ["NAME", "command"]

NAME = "models"


def command(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the backbones: size, accuracy, licence, and whether the weights are here."""
