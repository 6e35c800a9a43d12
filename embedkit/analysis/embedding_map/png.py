"""Writes a map as a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import MissingExtraError
from embedkit.report.group_marks import OTHER, mark_of
from embedkit.report.matplotlib_style import drawable, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["draw_png"]

_INCHES, _DPI = (10, 8), 150
_COLUMN, _MAX_NAMED = 40, 80  # names in a column of the legend, and in all
_TITLE_LETTERS = 70
_MOST_MARKS = 20_000  # points that are drawn as marks, as on the page
_PIXELS = 600  # of the side of the density
_FAINTEST = 0.2  # opacity of a pixel with few points
_FULL = 4  # times the mean count of pixels with points: these are opaque


def draw_png(
    points: NDArray[np.float32],
    groups: NDArray[np.int64],
    names: Sequence[str],
    title: str,
) -> bytes:
    """Draws a map.

    Up to 20,000 points are drawn as marks. More are counted per pixel: the more lie in one, the
    darker it is, on a log scale, in the mean of their groups' colours.

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
    is_dense = len(points) > _MOST_MARKS
    if is_dense:
        axes.imshow(
            _density(points, groups, names), extent=(0, 1, 0, 1), origin="lower",
            interpolation="nearest",
        )  # fmt: skip
    for number, size in zip((-1, *range(len(names))), _sizes(groups, names), strict=True):
        if number >= _MAX_NAMED and is_dense:
            break  # it has no line in the legend
        mine = np.empty((0, 2), np.float32) if is_dense else points[groups == number]
        mark = OTHER if number < 0 else mark_of(number)
        label = "other" if number < 0 else names[number]
        if size:
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


def _sizes(groups: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """``(k + 1,)``: number of points without a group, and of each of the k groups."""
    return np.bincount(groups + 1, minlength=len(names) + 1)


def _density(
    points: NDArray[np.float32], groups: NDArray[np.int64], names: Sequence[str]
) -> NDArray[np.float64]:
    """The picture of many points, ``(p, p, 4)`` RGBA from 0 to 1, the lowest line first."""
    marks = [OTHER, *map(mark_of, range(len(names)))]
    colors = np.array([list(bytes.fromhex(mark.color[1:])) for mark in marks]) / 255
    places = np.minimum((points * _PIXELS).astype(np.int64), _PIXELS - 1)
    cells = places[:, 1] * _PIXELS + places[:, 0]
    counts = np.bincount(cells, minlength=_PIXELS**2)
    picture = np.zeros((_PIXELS**2, 4))
    for channel in range(3):
        sums = np.bincount(cells, colors[groups + 1, channel], _PIXELS**2)
        picture[:, channel] = np.clip(sums / np.maximum(counts, 1), 0, 1)
    full = _FULL * counts[counts > 0].mean()  # the greatest count may be of a few copies alone
    strength = np.minimum(np.log1p(counts) / np.log1p(full), 1)
    picture[:, 3] = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * strength, 0)
    return picture.reshape(_PIXELS, _PIXELS, 4)
