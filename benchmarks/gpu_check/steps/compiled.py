"""Compiled engines: seconds of compiling, images/s alone, and end to end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gpu_check.steps.end_to_end import extract_rate, make_images
from gpu_check.steps.rates import engine_rate, load

if TYPE_CHECKING:
    from gpu_check.context import Context

_SECONDS_EACH = 25  # what compiling may take, by guess


def run(context: Context) -> None:
    from embedkit.engines.torch import TorchEngine

    batch = context.sizes.batches[-2]
    for name in context.sizes.networks:
        if context.seconds_left < _SECONDS_EACH:
            context.report(f"{name} compiled: not measured, no time left")
            continue
        backbone = load(name)
        began = time.monotonic()
        with TorchEngine(
            backbone, device=context.device, batch_size=batch, precision="bf16", compiled=True
        ) as engine:
            seconds = time.monotonic() - began
            rate = engine_rate(engine, context.sizes.seconds)
        context.report(
            f"{name} bf16 compiled: {rate:,.0f} images/s at a batch of {batch}; "
            f"compiled in {seconds:.0f} s",
            **{f"{name}.rate": rate, f"{name}.seconds": seconds},
        )
    if context.seconds_left > _SECONDS_EACH:
        name = context.sizes.networks[0]
        folder = make_images(context)
        found = extract_rate(context, folder, load(name), "bf16", "torch-compiled", batch)
        context.report(
            f"{name} bf16 compiled, end to end: {found.rate:,.0f} images/s", end_to_end=found.rate
        )
