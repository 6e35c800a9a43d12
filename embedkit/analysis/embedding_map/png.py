"""Writes a map as a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import MissingExtraError
from embedkit.report.group_marks import OTHER, mark_of
from embedkit.report.matplotlib_style import drawable, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw_png"]

_INCHES, _DPI = (10, 8), 150
_COLUMN, _MAX_NAMED = 40, 80  # names in a column of the legend, and in all
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
        names: Names of the groups; the legend has the first 80.
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
        mark = OTHER if number < 0 else mark_of(number)
        label = "other" if number < 0 else names[number]
        if len(mine):
            axes.scatter(
                mine[:, 0],
                mine[:, 1],
                s=10,
                marker=mark.shape,
                facecolors="none" if mark.is_hollow else mark.color,
                edgecolors=mark.color,
                linewidths=0.8 if mark.is_hollow else 0,
                label=drawable(label) if number < _MAX_NAMED else "_",
            )
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(drawable(title, _TITLE_LETTERS))
    if names:
        columns = 1 + (min(len(names), _MAX_NAMED) - 1) // _COLUMN
        left_out = len(names) - _MAX_NAMED
        remark = f"the {_MAX_NAMED} largest of {len(names):,}" if left_out > 0 else None
        figure.legend(
            loc="outside right upper", fontsize="small", markerscale=2, ncols=columns,
            title=remark,
        )  # fmt: skip
    return to_png(figure)
