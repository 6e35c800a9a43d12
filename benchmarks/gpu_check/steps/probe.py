"""A linear probe on the GPU beside the CPU's: seconds, the objective."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from gpu_check.context import Context


def run(context: Context) -> None:
    sizes = context.sizes
    rows, labels = draw(context)
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

    from embedkit.probe.logistic import LogisticProblem
    from embedkit.probe.rotated_features import Features
    from embedkit.probe.rows import Rows

    torch.zeros(1, device=device)
    began = time.perf_counter()
    features = Features(Rows(rows), device=device)
    known = torch.from_numpy(labels).to(device)
    found = LogisticProblem(features, known, context.sizes.probe_classes).solve(1.0)
    return found, time.perf_counter() - began


def draw(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """``(n, D) float16`` around a centre per class, one label in seven wrong."""
    import torch

    sizes, device = context.sizes, context.device
    generator = torch.Generator(device).manual_seed(0)
    scale = (torch.arange(sizes.probe_dim, device=device) + 1.0) ** -0.5
    shape = (sizes.probe_classes, sizes.probe_dim)
    centres = torch.randn(*shape, generator=generator, device=device) * scale
    count = sizes.probe_rows
    truth = torch.randint(len(centres), (count,), generator=generator, device=device)
    noise = torch.randn(count, sizes.probe_dim, generator=generator, device=device) * scale
    rows = (centres[truth] + 2 * noise + 0.1).clamp_(min=0).half().cpu().numpy()
    wrong = torch.rand(count, generator=generator, device=device) < 1 / 7
    other = torch.randint(len(centres), (count,), generator=generator, device=device)
    return rows, torch.where(wrong, other, truth).cpu().numpy()
