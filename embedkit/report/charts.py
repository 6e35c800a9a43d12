"""Charts of a page as plain geometry; ``chart.html`` draws them in the page's own colours."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Chart", "ConfusionChart", "Series"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 470, 10, 230  # the frame of a chart, in its own units
_MAX_NAMED = 60  # classes; the names of more would overlap
_RIGHT_COLOR, _WRONG_COLOR = (47, 125, 209), (224, 82, 60)  # seen on white and on black


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart.

    Attributes:
        name: In the legend.
        points: x, y, and half the length of the error bar (0 draws none); x ascending.
    """

    name: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a logarithmic axis.

    Attributes:
        title: Above it.
        note: A remark.
        x_label: Under it.
        series: The lines; at least one point in all.
        marked: The x that was chosen; None marks none.
    """

    title: str
    note: str
    x_label: str
    series: Sequence[Series]
    marked: float | None = None

    def lines(self) -> list[tuple[str, list[tuple[float, float, float, float]]]]:
        """Names and points on the page: x, y, and the ends of the error bar."""
        return [
            (
                one.name,
                [
                    (self.place_x(x), self._y(y), self._y(y - bar), self._y(y + bar))
                    for x, y, bar in one.points
                ],
            )
            for one in self.series
        ]

    def x_ticks(self) -> list[tuple[float, str]]:
        """Places and labels: the values if they are few, else powers of ten."""
        values = sorted({x for one in self.series for x, *_ in one.points})
        if len(values) > 8:
            low, high = math.ceil(math.log10(values[0])), math.floor(math.log10(values[-1]))
            step = max(1, (high - low) // 6 + 1)
            values = [10.0**power for power in range(low, high + 1, step)]
        return [(self.place_x(x), f"{x:g}") for x in values]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Places and labels of some round values."""
        low, high, step = self._y_range()
        count = round((high - low) / step)
        return [(self._y(low + k * step), f"{low + k * step:.4g}") for k in range(count + 1)]

    def place_x(self, x: float) -> float:
        """Where a value lies on the page."""
        values = [math.log(x) for one in self.series for x, *_ in one.points]
        low, high = min(values), max(values)
        share = (math.log(x) - low) / (high - low) if high > low else 0.5
        return round(_LEFT + 14 + share * (_RIGHT - _LEFT - 28), 1)

    def _y(self, y: float) -> float:
        low, high, _ = self._y_range()
        share = min(max((y - low) / (high - low), 0), 1)
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    def _y_range(self) -> tuple[float, float, float]:
        """Round limits about the values, and the round step between them."""
        points = [point for one in self.series for point in one.points]
        low, high = min(y - bar for _, y, bar in points), max(y + bar for _, y, bar in points)
        if all(0 <= y <= 1 for _, y, _ in points):  # shares: no error bar reaches beyond
            low, high = max(low, 0.0), min(high, 1.0)
        rough = max(high - low, 0.05) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= 0.999 * rough)
        low = math.floor(low / step + 1e-9) * step
        return low, max(math.ceil(high / step - 1e-9) * step, low + step), step


@dataclass(frozen=True, slots=True)
class ConfusionChart:
    """A confusion matrix: a row for each true class, a column for each predicted one.

    Attributes:
        names: C names.
        image: ``data:`` URI of a PNG of C x C pixels: the more opaque, the larger the share of
            the row; of one colour on the diagonal, of another beside it.
    """

    names: Sequence[str]
    image: str

    @classmethod
    def of(cls, counts: NDArray[np.int64], names: Sequence[str]) -> ConfusionChart:
        """The chart of ``(C, C)`` counts."""
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        pixels = np.zeros((*counts.shape, 4), np.uint8)
        pixels[..., :3] = _WRONG_COLOR
        pixels[np.diag_indices(len(counts))] = (*_RIGHT_COLOR, 0)
        pixels[..., 3] = np.where(counts > 0, 40 + 215 * np.sqrt(shares), 0).round()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        uri = base64.b64encode(file.getvalue()).decode("ascii")
        return cls(names, f"data:image/png;base64,{uri}")

    @property
    def are_named(self) -> bool:
        """Whether the names of the classes have room."""
        return len(self.names) <= _MAX_NAMED
