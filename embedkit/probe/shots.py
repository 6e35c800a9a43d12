"""Sums up the random draws of a probe by shots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from embedkit.probe.run import ProbeResult

__all__ = ["summarize_shots"]


def summarize_shots(result: ProbeResult) -> list[dict[str, Any]]:
    """The mean and the sample's standard deviation of each figure over trials."""
    rows = []
    for shots in dict.fromkeys(run.shots for run in result.runs if run.shots is not None):
        runs = [run for run in result.runs if run.shots == shots]
        for name in runs[0].measures:
            values = [run.measures[name].value for run in runs]
            std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            mean = float(np.mean(values))
            row = {"shots": shots, "measure": name, "mean": mean, "std": std}
            rows.append({**row, "trials": len(runs)})
    return rows
