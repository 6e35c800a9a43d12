"""Engines alone: fp32 and bf16, eager in CUDA graphs; the best of some batch sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_check.steps.rates import engine_rate, load

if TYPE_CHECKING:
    from embedkit.backbones import Backbone
    from gpu_check.context import Context

_MANY_BATCHES = ("resnet50_swsl", "resnext101_32x8d_swsl")


def run(context: Context) -> None:
    from embedkit.engines.torch import TorchEngine

    best_batch = context.sizes.batches[-2]

    def measure(backbone: Backbone, precision: str, batch: int) -> float:
        with TorchEngine(
            backbone, device=context.device, batch_size=batch, precision=precision
        ) as engine:
            return engine_rate(engine, context.sizes.seconds)

    for name in context.sizes.networks:
        backbone = load(name)
        sizes = context.sizes.batches if name in _MANY_BATCHES else (best_batch,)
        for precision, batches in (("bf16", sizes), ("fp32", (best_batch,))):
            if context.seconds_left < 8:
                context.report(f"{name} {precision}: not measured, no time left")
                continue
            rates = {batch: measure(backbone, precision, batch) for batch in batches}
            best = max(rates, key=rates.__getitem__)
            every = ", ".join(f"{batch}: {rate:,.0f}" for batch, rate in rates.items())
            context.report(
                f"{name} {precision} eager: {rates[best]:,.0f} images/s at a batch of {best}"
                + (f" ({every})" if len(rates) > 1 else ""),
                **{f"{name}.{precision}": rates},
            )
