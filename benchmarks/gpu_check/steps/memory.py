"""Batches are computed in parts where the device's memory is short: the same rows."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import numpy as np

from gpu_check.steps.rates import load

if TYPE_CHECKING:
    from gpu_check.context import Context

_LEFT = 3 * 2**30  # bytes


def run(context: Context) -> None:
    import torch

    from embedkit.engines.torch import TorchEngine

    backbone = load(context.sizes.networks[0])
    batch = context.sizes.batches[-1]
    shape = (batch, backbone.preprocessing.crop, backbone.preprocessing.crop, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    rows, parts = [], []
    for short in (False, True):
        if short and context.on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(_LEFT / total)
        with TorchEngine(backbone, device=context.device, batch_size=batch) as engine:
            rows.append(engine.embed(images))
            parts.append(engine.part)
        del engine
    difference = float(np.abs(rows[0] - rows[1]).max() / np.abs(rows[0]).max())
    context.report(
        f"batches of {batch}: in parts of {parts[0]}; with {_LEFT / 2**30:.0f} GiB in parts of "
        f"{parts[1]}, largest difference {difference:.1e} of the largest value",
        parts=parts,
        difference=difference,
    )
    if difference > 1e-4 or (context.on_gpu and parts[1] >= parts[0]):
        sys.exit("batches aren't cut in parts as they should be")
