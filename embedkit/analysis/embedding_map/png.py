"""Writes a map as a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import MissingExtraError
from embedkit.report import GROUP_COLORS, OTHER_COLOR
from embedkit.report.matplotlib_style import drawable, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw_png"]

_INCHES, _DPI = (10, 8), 150
_TITLE_LETTERS = 70


def draw_png(
    points: NDArray[np.float32],
    groups: NDArray[np.int64],
    names: Sequence[str],
    title: str,
) -> bytes:
    """Draws a map.

    Args:
        points: ``(n, 2)`` in the unit square.
        groups: ``(n,)`` numbers of ``names``; -1 for the rest.
        names: Names of the groups that have a colour, at most as many as there are colours.
        title: Above the map.

    Returns:
        A PNG of 1500 x 1200 pixels.

    Raises:
        MissingExtraError: matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("matplotlib", "map", "a map as PNG") from exc
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for number in (-1, *range(len(names))):
        mine = points[groups == number]
        color = OTHER_COLOR if number < 0 else GROUP_COLORS[number]
        label = "other" if number < 0 else names[number]
        if len(mine):
            axes.scatter(mine[:, 0], mine[:, 1], s=8, c=color, label=drawable(label), linewidths=0)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(drawable(title, _TITLE_LETTERS))
    if names:
        figure.legend(loc="outside right upper", fontsize="small", markerscale=2)
    return to_png(figure)
