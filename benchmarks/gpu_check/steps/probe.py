"""A linear probe on the GPU beside the CPU's: seconds, the objective."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gpu_check.context import Context


def run(context: Context) -> None:
    sizes = context.sizes
    rows, labels = draw(sizes.probe_rows, sizes.probe_dim, sizes.probe_classes)
    few = sizes.probe_check_rows
    gpu, gpu_seconds = fit(context, context.device, rows[:few], labels[:few])
    cpu, cpu_seconds = fit(context, "cpu", rows[:few], labels[:few])
    gap = abs(gpu.value - cpu.value) / cpu.value
    context.report(
        f"{few:,} x {sizes.probe_dim}, {sizes.probe_classes} classes: {gpu_seconds:.1f} s, the CPU "
        f"{cpu_seconds:.1f} s; objectives {gpu.value:.7f} and {cpu.value:.7f}",
        few={"seconds": gpu_seconds, "cpu_seconds": cpu_seconds, "gap": gap},
    )
    if gap > 1e-5:
        sys.exit(f"the objectives are {gap:.1e} apart")
    whole, seconds = fit(context, context.device, rows, labels)
    context.report(
        f"{len(rows):,} x {sizes.probe_dim}, {sizes.probe_classes} classes: {seconds:.1f} s, "
        f"{whole.evaluations} passes",
        whole={"seconds": seconds, "passes": whole.evaluations},
    )


def fit(context: Context, device: str, rows: np.ndarray, labels: np.ndarray):
    """The solution and its seconds."""
    import torch

    from embedkit.probe.features import Features
    from embedkit.probe.logistic import LogisticProblem
    from embedkit.probe.rows import Rows

    torch.zeros(1, device=device)
    began = time.perf_counter()
    features = Features(Rows(rows), device=device)
    known = torch.from_numpy(labels).to(device)
    found = LogisticProblem(features, known, context.sizes.probe_classes).solve(1.0)
    return found, time.perf_counter() - began


def draw(count: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """``(count, dim) float16`` around a centre per class, one label in seven wrong."""
    rng = np.random.default_rng(0)
    scale = ((np.arange(dim) + 1.0) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((classes, dim), np.float32) * scale
    truth = rng.integers(0, classes, count)
    rows = np.empty((count, dim), np.float16)
    for start in range(0, count, 20_000):
        some = truth[start : start + 20_000]
        noise = rng.standard_normal((len(some), dim), np.float32) * scale
        rows[start : start + len(some)] = np.maximum(centres[some] + 2 * noise + 0.1, 0)
    wrong = rng.random(count) < 1 / 7
    return rows, np.where(wrong, rng.integers(0, classes, count), truth)
