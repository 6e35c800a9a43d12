"""Cosines of the GPU's rows to the CPU's fp32; the same bits in two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpu_check.steps.rates import load, pixels_of

if TYPE_CHECKING:
    from embedkit.backbones import Backbone
    from gpu_check.context import Context

_BATCH = 32


def run(context: Context) -> None:
    compare(context, context.sizes.trained, context.sizes.fidelity_images)
    for name in context.sizes.networks[:2]:
        compare(context, name, _BATCH)


def compare(context: Context, name: str, count: int) -> None:
    """Cosines of a backbone's rows in both precisions."""
    import torch

    backbone = load(name)
    pixels = pixels_of(backbone, context.photos[:count])
    threads = torch.get_num_threads()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        expected = [
            backbone.module((torch.from_numpy(part).permute(0, 3, 1, 2) / 255 - mean) / std)
            for part in np.array_split(pixels, max(1, len(pixels) // _BATCH))
        ]
    exact = torch.cat(expected).numpy()
    torch.set_num_threads(threads)
    for precision in ("fp32", "bf16"):
        found = embed(context, backbone, precision, pixels)
        again = embed(context, backbone, precision, pixels)
        cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1)
        cosines /= np.linalg.norm(exact, axis=1)
        same = "the same bits again" if np.array_equal(found, again) else "OTHER BITS AGAIN"
        context.report(
            f"{name} ({backbone.weights.split(':')[0]}) {precision}, {len(pixels)} images: cosine "
            f"to the CPU's fp32 {cosines.min():.6f} at least, {np.median(cosines):.6f} median; "
            f"{same}",
            **{f"{name}.{precision}": {"least": float(cosines.min()),
                                       "median": float(np.median(cosines)), "again": same}},
        )  # fmt: skip


def embed(context: Context, backbone: Backbone, precision: str, pixels: np.ndarray) -> np.ndarray:
    """``(n, D) float32`` of pixels, by a fresh engine."""
    from embedkit.engines.torch import TorchEngine

    with TorchEngine(
        backbone, device=context.device, batch_size=_BATCH, precision=precision
    ) as engine:
        starts = range(0, len(pixels), _BATCH)
        return np.concatenate([engine.embed(pixels[at : at + _BATCH]) for at in starts])
