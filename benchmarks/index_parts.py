"""What the parts of an index build on Ray take: measured on one core, and by the library's model.

    python benchmarks/index_parts.py
    python benchmarks/index_parts.py --plan 1000000000 2048 --workers 64 --cores 16

The first adds 16,384 random rows to parts of several sizes, and compares the processor time with
what ``embedkit index build --ray --dry-run`` says. The second prints the plan for a store that need
not exist, on so many workers with so many cores each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from support.machine import print_facts
from support.tables import print_table
from support.vectors import write_store

from embedkit.index import IndexSpec
from embedkit.index.build_cost import build_cost

_ROWS = 16384
_ON_ONE_CORE = ("join", "write ids")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", nargs=2, type=int, metavar=("ROWS", "DIM"))
    parser.add_argument("--factory", default="auto")
    parser.add_argument("--on-disk", action="store_true")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--cores", type=int, default=16)
    args = parser.parse_args()
    if args.plan:
        spec = IndexSpec(factory=args.factory, on_disk=args.on_disk)
        _plan(*args.plan, spec, args.workers, args.cores)
    else:
        _measure()


def _plan(count: int, dim: int, spec: IndexSpec, workers: int, cores: int) -> None:
    rows = []
    for step in build_cost(spec, count, dim):
        rounds = -(-step.tasks // workers) if step.tasks else 1
        used = 1 if step.step in _ON_ONE_CORE else cores
        rows.append(
            (
                step.step, f"{step.tasks or 'driver'}", f"{step.rows:,}",
                f"{step.nbytes / 1e9:,.1f}",
                f"{step.seconds:,.0f}", f"{rounds * step.seconds / used / 60:,.0f}",
            )
        )  # fmt: skip
    header = ("step", "tasks", "rows each", "GB each", "core-seconds each", "minutes in all")
    print(f"{count:,} x {dim}, {workers} workers and a driver of {cores} cores each")
    print_table(header, rows)


def _measure() -> None:
    print_facts()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dim in (512, 2048):
            store = Path(folder) / f"{dim}.h5"
            write_store(store, _ROWS, dim)
            for lists in (256, 4096, 16384):
                for codes in (f"PQ{dim // 4}x4fs", "SQ8"):
                    factory = f"IVF{lists},{codes}"
                    cost = {s.step: s for s in build_cost(IndexSpec(factory=factory), _ROWS, dim)}
                    seconds = _added(store, dim, factory)
                    predicted = cost["add"].tasks * cost["add"].seconds
                    rows.append((f"{dim}", factory, f"{seconds:.2f}", f"{predicted:.2f}"))
    print_table(("dim", "index", "measured, core-seconds", "by the model"), rows)


def _added(store: Path, dim: int, factory: str) -> float:
    """Processor time of adding all rows of a store to a part whose training is random."""
    import faiss

    from embedkit.index.add_vectors import Encoder
    from embedkit.index.faiss_types import ivf_of, make_index
    from embedkit.index.parts import part_of
    from embedkit.index.store_rows import RowOrder, StoreRows
    from embedkit.index.vector_space import Space

    rng = np.random.default_rng(0)
    index = make_index(factory, dim, "cosine")
    ivf = ivf_of(index)
    ivf.quantizer.add(rng.standard_normal((ivf.nlist, dim)).astype(np.float32))
    if hasattr(ivf, "pq"):
        size = ivf.pq.M * ivf.pq.ksub * ivf.pq.dsub
        faiss.copy_array_to_vector(rng.standard_normal(size).astype(np.float32), ivf.pq.centroids)
    else:
        ivf.sq.train(rng.standard_normal((256, dim)).astype(np.float32))
    index.is_trained = ivf.is_trained = True
    part, factors = part_of(index), store.with_suffix(".factors")
    factors.write_bytes(b"")
    with StoreRows.open([store]) as rows:
        encoder = Encoder(rows, RowOrder(len(rows)), Space("cosine", dim), factors)
        began = time.process_time()
        encoder.add(part, 0, len(rows))
        return time.process_time() - began


if __name__ == "__main__":
    main()
