"""Plots recall against search time for an index's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import EmbedkitError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["plot_frontier"]

_WIDTH, _HEIGHT = 6.4, 4.0  # inches
_DPI = 150


def plot_frontier(
    path: Path,
    title: str,
    points: Sequence[tuple[float, float, str]],
    taken: tuple[float, float] | None,
) -> None:
    """Plots recall against time.

    Args:
        path: The file to write; its suffix says which format.
        title: What stands above.
        points: ``(recall@10, milliseconds a query, setting)`` of each setting.
        taken: Recall and time of the setting that searches take, to be marked.

    Raises:
        MissingExtraError: matplotlib isn't installed.
        EmbedkitError: There is nothing to plot, or the file can't be written.
    """
    if not points:
        raise EmbedkitError(f"{path}: nothing to plot: the index has no measured settings")
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("matplotlib", "plots", "a plot") from exc
    figure = Figure((_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    recalls, times = [p[0] for p in points], [p[1] for p in points]
    axes.plot(recalls, times, "o-", markersize=4)
    for recall, ms, setting in points:
        axes.annotate(setting, (recall, ms), (4, -8), textcoords="offset points", fontsize=5)
    if taken is not None:
        axes.plot(*taken, "o", markersize=10, markerfacecolor="none", color="tab:red")
    axes.set_yscale("log")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("milliseconds a query")
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.grid(visible=True, which="both", alpha=0.3)
    try:
        figure.savefig(path, dpi=_DPI)
    except (OSError, ValueError) as exc:
        raise EmbedkitError(f"{path}: can't be written: {exc}") from exc
