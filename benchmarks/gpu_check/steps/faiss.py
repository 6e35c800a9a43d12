"""faiss on the GPU as embedkit uses it: k-means, assigning while building, and searching."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gpu_check.context import Context

_DIM, _BLOCK = 512, 500_000


def run(context: Context) -> None:
    import faiss

    from embedkit.index.gpu import adding_to, num_gpus
    from embedkit.index.train import train_index

    if context.on_gpu and not num_gpus():
        sys.exit("faiss sees no GPU")
    sizes = context.sizes
    index = faiss.index_factory(_DIM, f"IVF{sizes.faiss_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = draw_rows(min(sizes.faiss_rows, 40 * sizes.faiss_lists), 0)
    seconds = timed(lambda: train_index(index, sample, 0))
    context.report(
        f"k-means of {len(sample):,} x {_DIM} into {sizes.faiss_lists:,}: {seconds:.1f} s",
        train_seconds=seconds,
    )
    check_assignment(context, index, sample[: sizes.faiss_queries])
    added = 0.0
    with adding_to(index) as add:
        for number, start in enumerate(range(0, sizes.faiss_rows, _BLOCK)):
            if context.seconds_left < 30 and context.on_gpu:
                break
            rows = draw_rows(min(_BLOCK, sizes.faiss_rows - start), number)
            ids = np.arange(start, start + len(rows))
            added += timed(lambda rows=rows, ids=ids: add(rows, ids))
    context.report(
        f"added {index.ntotal:,} rows: {added:.1f} s, {index.ntotal / added:,.0f} rows/s",
        add_seconds=added,
        rows=index.ntotal,
    )
    search(context, index)


def check_assignment(context: Context, index, rows: np.ndarray) -> None:
    """The lists that rows go to, by the GPU and by the CPU."""
    from embedkit.index.gpu import on_gpus

    quantizer = on_gpus(index.quantizer)
    found = quantizer.search(rows, 1)[1].ravel()
    seconds = timed(lambda: quantizer.search(rows, 1))
    expected = index.quantizer.search(rows, 1)[1].ravel()
    cpu = timed(lambda: index.quantizer.search(rows, 1))
    share = float((found == expected).mean())
    context.report(
        f"assigning {len(rows):,} rows: {seconds:.3f} s, the CPU {cpu:.3f} s; {share:.4%} go to "
        "the same list",
        assigned_alike=share,
    )
    if share < 0.99:
        sys.exit("the GPU assigns rows to other lists")


def search(context: Context, index) -> None:
    """Searching the whole index on the GPU, beside the CPU: ids and queries/s."""
    import faiss

    queries = draw_rows(context.sizes.faiss_queries, 1)
    index.nprobe = 32
    began = time.perf_counter()
    expected = index.search(queries, 10)[1]
    cpu = time.perf_counter() - began
    fast = index
    if context.on_gpu:
        resources = faiss.StandardGpuResources()
        fast = faiss.index_cpu_to_gpu(resources, 0, index)
        fast.nprobe = 32
    found = fast.search(queries, 10)[1]
    seconds = timed(lambda: fast.search(queries, 10))
    alike = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)])
    context.report(
        f"{len(queries):,} queries, nprobe 32: {len(queries) / seconds:,.0f} queries/s, the CPU "
        f"{len(queries) / cpu:,.0f}; {alike:.4%} of the neighbours are the same",
        queries_per_second=len(queries) / seconds,
        cpu_queries_per_second=len(queries) / cpu,
        same_neighbours=float(alike),
    )


def timed(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def draw_rows(count: int, seed: int) -> np.ndarray:
    """``(count, 512) float32`` unit rows around some thousand centres."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(7)
    scale = (torch.arange(_DIM, device=device) + 1.0) ** -0.5
    centres = torch.randn(5000, _DIM, generator=generator, device=device) * scale
    generator.manual_seed(1000 + seed)
    which = torch.randint(5000, (count,), generator=generator, device=device)
    noise = torch.randn(count, _DIM, generator=generator, device=device) * scale
    rows = torch.nn.functional.normalize(centres[which] + 0.7 * noise)
    return rows.cpu().numpy()
