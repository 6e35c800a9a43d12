"""What all plots share: text that matplotlib can draw, and PNG output."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawable", "to_png"]


def drawable(name: str, letters: int = 30) -> str:
    """A name as it is drawn: cut to so many letters, and as text.

    matplotlib takes ``$`` for mathematics, and leaves a name that begins with ``_`` out of legends.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    short = shown if len(shown) <= letters else shown[: letters - 1] + "…"
    plain = short.replace("$", r"\$")
    return f"\u200b{plain}" if plain.startswith("_") else plain


def to_png(figure: Figure) -> bytes:
    """A figure as a PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn in its place
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
