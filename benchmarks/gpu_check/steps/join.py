"""The exact join on the GPU beside the CPU's: the same pairs, seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gpu_check.context import Context

_DIM, _THRESHOLD = 512, 0.9


def run(context: Context) -> None:
    from embedkit.dedup.candidates.exact_join import exact_join
    from embedkit.dedup.candidates.gpu_join import gpu_join
    from embedkit.dedup.unit_rows import UnitRows

    gpu_join(UnitRows(draw_rows(1000, 9, context.device)), _THRESHOLD, context.device)  # warms up
    for number, count in enumerate(context.sizes.join_rows):
        if context.on_gpu and context.seconds_left < 20:
            context.report(f"{count:,} rows: not measured, no time left")
            continue
        rows = UnitRows(draw_rows(count, number, context.device))
        began = time.perf_counter()
        found = gpu_join(rows, _THRESHOLD, context.device)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        if number == 0:
            expected, share = exact_join(rows, _THRESHOLD), 1.0
        else:
            some = np.arange(context.sizes.join_check_rows)
            expected = exact_join(UnitRows(rows.take(some)), _THRESHOLD, against=rows)
            expected = tuple(column[expected[1] > expected[0]] for column in expected)
            share = len(some) / count
            found = tuple(column[found[0] < len(some)] for column in found)
        on_cpu = time.perf_counter() - began
        pairs = [
            set(zip(one[0].tolist(), one[1].tolist(), strict=True)) for one in (found, expected)
        ]
        same = "the same pairs" if pairs[0] == pairs[1] else f"{len(pairs[0] ^ pairs[1])} DIFFER"
        what = "the CPU" if share == 1 else f"the CPU, {share:.0%} of the rows against all"
        rate = count * (count - 1) / 2 / seconds
        context.report(
            f"{count:,} x {_DIM}: {seconds:.2f} s, {rate / 1e9:,.1f} billion pairs of rows/s; "
            f"{what}: {on_cpu:.2f} s; {same} ({len(pairs[1]):,})",
            **{str(count): {"seconds": seconds, "cpu_seconds": on_cpu, "cpu_share": share,
                            "pairs": len(pairs[1]), "same": pairs[0] == pairs[1]}},
        )  # fmt: skip
        if pairs[0] != pairs[1]:
            sys.exit("the GPU's pairs are others than the CPU's")


def draw_rows(count: int, seed: int, device: str) -> np.ndarray:
    """``(count, 512) float16``: directions of falling variance, one row in fifty near another."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    scale = (torch.arange(_DIM, device=device) + 1.0) ** -0.5
    rows = torch.randn(count, _DIM, generator=generator, device=device) * scale
    near = torch.randperm(count, generator=generator, device=device)[: count // 50]
    other = torch.randint(count, (len(near),), generator=generator, device=device)
    shift = torch.randn(len(near), _DIM, generator=generator, device=device) * scale
    rows[near] = rows[other] + 0.3 * shift
    return rows.half().cpu().numpy()
