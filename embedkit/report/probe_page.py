"""Data of the HTML page and the plot of a probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import MissingExtraError
from embedkit.report.gallery_data import Page
from embedkit.report.matplotlib_style import drawable, to_png
from embedkit.report.page_writer import environment, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.report.charts import Chart, ConfusionChart
    from embedkit.report.gallery_data import Picture

__all__ = [
    "FigureTable",
    "PictureGroup",
    "ProbePage",
    "draw_confusion",
    "write_probe_page",
]

_NAMED = 60  # classes; the names of more would overlap


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A table of figures.

    Attributes:
        title: Above it.
        header: Names of the columns.
        rows: The cells, as they are shown.
        note: A remark.
        folded: Whether only the title is seen at first.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class PictureGroup:
    """Pictures that belong together.

    Attributes:
        title: Above them.
        note: A remark.
        pictures: Each with what is said of it.
    """

    title: str
    note: str
    pictures: Sequence[tuple[Picture, str]]


@dataclass(frozen=True, slots=True)
class ProbePage(Page):
    """The report of a probe. Empty parts are left out.

    Attributes:
        charts: Curves, the most telling first.
        confusion: The confusion matrix.
        tables: Figures.
        groups: Pictures.
        groups_note: A remark on them.
        no_mistakes: Where there are no groups: a headline, and what was tested.
    """

    charts: Sequence[Chart] = ()
    confusion: ConfusionChart | None = None
    tables: Sequence[FigureTable] = ()
    groups: Sequence[PictureGroup] = ()
    groups_note: str = ""
    no_mistakes: tuple[str, str] | None = None


def write_probe_page(path: Path, page: ProbePage) -> Path:
    """Writes the report as one HTML file that loads nothing from anywhere.

    Raises:
        EmbedkitError: The file can't be written.
    """
    return write_page(path, environment().get_template("probe.html").render(page=page))


def draw_confusion(counts: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """Draws a confusion matrix, each row as shares of its true class.

    Args:
        counts: ``(C, C)``, a row a true class.
        names: C names, which are shown up to 60 classes.

    Returns:
        A PNG; the same counts give the same bytes.

    Raises:
        MissingExtraError: matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("matplotlib", "probe", "a plot") from exc
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = 3 + 0.16 * min(len(names), _NAMED)
    figure = Figure(figsize=(side, side), layout="constrained", dpi=110)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= _NAMED:
        labels = [drawable(name) for name in names]
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
    figure.colorbar(shown, ax=axes, shrink=0.6)
    return to_png(figure)
