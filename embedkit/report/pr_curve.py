"""Plots precision and recall against the threshold, and whether probabilities hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import MissingExtraError

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as exc:
    raise MissingExtraError("matplotlib", "plots", "a plot") from exc

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.metrics import Reliability

__all__ = ["plot_curves"]

_FINEST = 1e-6  # nearer to 0 and 1 the scores of a logistic axis mean nothing more


def plot_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
    reliabilities: Mapping[str, Reliability],
    title: str,
) -> None:
    """Writes an image: precision and recall by threshold, by each other, and a reliability diagram.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``.
        curves: By name, ``(t,)`` thresholds from 0 to 1, precisions and recalls.
        reliabilities: By the same names.
        title: Above all.

    Raises:
        ValueError: The file's name has another ending.
    """
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    by_threshold, by_recall, by_score = figure.subplots(1, 3)
    by_score.plot((0, 1), (0, 1), ":", color="gray", label="as stated")
    for number, (name, (thresholds, precision, recall)) in enumerate(curves.items()):
        color = f"C{number}"
        shown = thresholds.clip(_FINEST, 1 - _FINEST)
        by_threshold.plot(shown, precision, color=color, label=f"precision, {name}")
        by_threshold.plot(shown, recall, "--", color=color, label=f"recall, {name}")
        by_recall.plot(recall, precision, color=color, label=name)
        held = reliabilities[name]
        label = f"{name} (error {held.error:.4f})"
        by_score.plot(held.stated, held.found, "o-", color=color, label=label)
    by_threshold.set(xscale="logit", xlabel="threshold", ylim=(0, 1.02))
    by_recall.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    by_score.set(xlabel="stated probability", ylabel="share of copies")
    by_score.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for axes, place in ((by_threshold, "lower left"), (by_recall, "lower left"), (by_score, None)):
        axes.grid(alpha=0.3)
        axes.legend(loc=place)
    figure.suptitle(title)
    figure.savefig(path)
