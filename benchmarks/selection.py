"""How near does `embedkit select` come to the limit, and does its memory stay bounded?

    python benchmarks/selection.py --rows 3000000 --per-class 1000

Makes a sharded store of random rows and a random head, and selects from it over and over until so
many rows have passed (100,000,000 for the paper's size). The limit is what is slower of reading the
rows alone and of the matrix product alone (float32 rows that are in memory already, NumPy's BLAS,
all cores), both measured in the same run, before and after. Prints rates, their ratio, and the peak
memory after one pass and after all. CPU time, of one BLAS thread and of all that `select` does,
stands beside it, since other work on the machine moves it less.

With every pass the thresholds rise, since the best rows come again, and fewer candidates pass:
after a dozen passes over 65,536 rows as few as in a stream of millions. So the first pass, where
nearly all rows are candidates, and the second half of the run are timed apart.
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.machine import print_facts
from threadpoolctl import threadpool_limits

from embedkit.analysis.selection.select import select
from embedkit.store import EmbeddingStore, StoreCounts, StoreMeta
from embedkit.store.manifest import MANIFEST, ShardEntry, encode_manifest
from embedkit.store.shard_builder import make_block
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import Head, ImageFacts
from embedkit.utils.atomic_write import commit_bytes

_SHARD_ROWS = 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000, help="that pass, in all")
    parser.add_argument("--shards", type=int, default=4, help="of 16,384 rows, used over and over")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.store:
        make_store(args.store, args.shards, args.dim, args.classes)
        return
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [sys.executable, __file__, "--store", store, "--shards", str(args.shards)]
        command += ["--dim", str(args.dim), "--classes", str(args.classes)]
        subprocess.run(command, check=True)
        measure(store, args.rows, args.per_class)


def measure(store: Path, rows: int, per_class: int) -> None:
    """Prints the limit, the rates beside it, and the memory."""
    before = limits(store)
    with EmbeddingStore.open(store) as opened:
        once = len(opened)
    began = time.perf_counter()
    select(store, per_class)
    first = once / (time.perf_counter() - began)
    peak_once = peak()
    passes = max(rows // once, 1)
    marks = []
    cpu_began = time.process_time()
    select([store] * passes, per_class, progress=lambda p: marks.append((p.done, now())))
    cpu = (time.process_time() - cpu_began) / (passes * once)
    settled = next(k for k, (done, _) in enumerate(marks) if done >= rows // 2)
    (done_a, time_a), (done_b, time_b) = marks[settled], marks[-1]
    settled_rate = (done_b - done_a) / (time_b - time_a)
    after = limits(store)
    print(f"{'rows/s':32}{'before':>10}{'after':>10}{'mean':>10}")
    means = {}
    for name in before:
        means[name] = (before[name] + after[name]) / 2
        print(f"{name:32}{before[name]:>10,.0f}{after[name]:>10,.0f}{means[name]:>10,.0f}")
    limit = min(means.values())
    print(f"\n{'':32}{'rows/s':>10}{'of the limit':>14}")
    print(f"{'select, first pass':32}{first:>10,.0f}{first / limit:>14.2f}")
    print(f"{f'select, from row {done_a:,} on':32}{settled_rate:>10,.0f}", end="")
    print(f"{settled_rate / limit:>14.2f}")
    alone = cpu_of_product(store)
    print(f"\nCPU time a row: {1e6 * cpu:.1f} us, the product alone {1e6 * alone:.1f} us, ", end="")
    print(f"{alone / cpu:.2f} of it")
    print(
        f"\npeak memory: {peak_once:,.0f} MiB after {once:,} rows, {peak():,.0f} MiB after", end=""
    )
    print(f" {done_b:,}; at this rate 100,000,000 rows take {1e8 / settled_rate / 3600:.1f} h")


def limits(store: Path, seconds: float = 5.0) -> dict[str, float]:
    """Rows a second of reading alone, and of the matrix product alone."""
    with EmbeddingStore.open(store) as opened:
        head, dim = opened.head, opened.meta.feature_dim
        began, done = now(), 0
        while now() < began + seconds:
            for number, entry in enumerate(opened.shards):
                for start in range(0, entry.embedded, 1024):
                    done += len(opened.shard(number).read(np.arange(start, start + 1024)))
        reading = done / (now() - began)
        rows = opened.shard(0).read(np.arange(8192)).astype(np.float32).reshape(-1, dim)
    began, done = now(), 0
    while now() < began + seconds:
        done += len(rows @ head.weight.T)
    return {"reading alone": reading, "matrix product alone": done / (now() - began)}


def cpu_of_product(store: Path, repeats: int = 10) -> float:
    """Seconds of CPU time for a row's product with the head, one thread, the least of several."""
    with EmbeddingStore.open(store) as opened:
        head, rows = opened.head, opened.shard(0).read(np.arange(1024)).astype(np.float32)
    times = []
    with threadpool_limits(1, "blas"):
        for _ in range(repeats):
            began = time.process_time()
            rows @ head.weight.T
            times.append(time.process_time() - began)
    return min(times[1:]) / len(rows)


def now() -> float:
    return time.perf_counter()


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_store(path: Path, shards: int, dim: int, classes: int) -> None:
    """A folder of shards of random rows, as a trained network's spread over its classes."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((classes, dim), np.float32) * 0.03
    names = tuple(f"class {number}" for number in range(classes))
    head = Head(weight, np.zeros(classes, np.float32), names)
    meta = StoreMeta(
        backbone="tiny", weights_fingerprint="", weights="random:0", licence="none",
        preprocessing={}, pooling={}, feature_dim=dim, dtype="float16", normalized=False,
        decode={}, engine={}, source=[], plan_hash="", embedkit_version="", head_applies=True,
    )  # fmt: skip
    path.mkdir()
    entries = []
    for number in range(shards):
        facts = [
            ImageFacts(64, 48, 9, "JPEG", hashlib.sha256(b"%d %d" % (number, row)).digest(), row)
            for row in range(_SHARD_ROWS)
        ]
        ids = [f"{number}/{row}.jpg" for row in range(_SHARD_ROWS)]
        rows = rng.standard_normal((_SHARD_ROWS, dim), np.float32)
        rows += 10 * weight[rng.integers(0, classes, _SHARD_ROWS)] * rng.random((_SHARD_ROWS, 1))
        block = make_block(ids, rows.astype(np.float16), facts, [None] * _SHARD_ROWS)
        counts = StoreCounts(_SHARD_ROWS, 0, 0)
        data = encode_shard(ShardContent(meta, counts, [block], [], False, head))
        name = f"shard-{number:06d}.h5"
        commit_bytes(path / name, data)
        entries.append(ShardEntry(name, _SHARD_ROWS, 0, 0, hashlib.sha256(data).hexdigest()))
    commit_bytes(path / MANIFEST, encode_manifest(meta, entries))


if __name__ == "__main__":
    main()
