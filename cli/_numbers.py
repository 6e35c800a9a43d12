"""Options that take a number or the word auto."""

from __future__ import annotations

from typing import Literal

import typer

from ._output import plain

__all__ = ["number_or_auto"]


def number_or_auto(text: str, flag: str) -> int | Literal["auto"]:
    """Returns what an option was given.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text)):
        raise typer.BadParameter(f"{flag}: give a number of at least 1, or auto, not {plain(text)}")
    return int(text)
