"""How well do the subsets of `embedkit select` cover their images, and what do they cost?

    python benchmarks/subsets.py --rows 5000 --count 100 --apricot PYTHON
    python benchmarks/subsets.py --rows 1000000 --count 1000

Makes a store of clustered rows and selects from it by each method, each in a process of its own, so
that its peak memory is its own. Prints, beside a random selection: the coverage radius (the
greatest cosine distance of an image to the nearest selected one), the mean distance, the
facility-location value (the mean, over all images, of the highest cosine to a selected one, zero at
least: every image counts, not only neighbors), time, and time of all cores together, which other
work on the machine moves less. With `--apricot`, the interpreter of an environment with
apricot-select, its facility location selects from the same rows: it holds all cosines, so that few
thousand rows are its limit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.machine import print_facts
from support.vectors import write_store

from embedkit import EmbeddingStore, select_subset
from embedkit.utils.vectors import unit_rows

_METHODS = ("diverse", "representative", "unique", "balanced")
_PEER = Path(__file__).parent / "peers" / "apricot_facility.py"
_BLOCK = 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--count", type=int, default=100, help="images to select")
    parser.add_argument("--methods", default=",".join(_METHODS))
    parser.add_argument("--apricot", help="Python with apricot-select")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.store:
        print(json.dumps(selected(args.store, args.methods, args.count)))
        return
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "rows.h5", args.rows, args.dim)
        compare(store, args)


def compare(store: Path, args: argparse.Namespace) -> None:
    """Prints a line per way of selecting."""
    print(f"\n{args.count:,} of {args.rows:,} x {args.dim}")
    print(f"{'':24}{'radius':>8}{'mean distance':>15}{'value':>8}", end="")
    print(f"{'seconds':>9}{'CPU s':>9}{'peak MiB':>10}")
    drawn = [
        np.random.default_rng(seed).choice(args.rows, args.count, replace=False)
        for seed in range(3)
    ]
    figures = np.mean([coverage(store, rows) for rows in drawn], axis=0)
    line("random, mean of 3", figures)
    for method in args.methods.split(","):
        command = [sys.executable, __file__, "--store", str(store), "--methods", method]
        found = output_of([*command, "--count", str(args.count)])
        line(method, coverage(store, found["rows"]), found)
    if args.apricot:
        with EmbeddingStore.open(store) as opened:
            np.save(store.with_suffix(".npy"), unit_rows(opened.to_numpy()))
        command = [args.apricot, str(_PEER), str(store.with_suffix(".npy")), str(args.count)]
        found = output_of(command)
        line(found["name"], coverage(store, found["rows"]), found)


def line(name: str, figures: np.ndarray, cost: dict | None = None) -> None:
    radius, mean, value = figures
    print(f"{name:24}{radius:>8.3f}{mean:>15.4f}{value:>8.4f}", end="")
    print("" if cost is None else f"{cost['seconds']:>9.1f}{cost['cpu']:>9.1f}", end="")
    print("" if cost is None else f"{cost['peak_mib']:>10,.0f}", flush=True)


def selected(store: Path, method: str, count: int) -> dict:
    """Selects, and measures this process."""
    began, cpu = time.perf_counter(), time.process_time()
    found = select_subset(store, method, count)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"rows": found.rows.tolist(), "seconds": seconds, "cpu": cpu, "peak_mib": peak()}


def coverage(store: Path, rows: list[int] | np.ndarray) -> np.ndarray:
    """Radius, mean distance and facility-location value, over all images."""
    with EmbeddingStore.open(store) as opened:
        centers = unit_rows(opened.take(np.asarray(rows)))
        best = np.concatenate(
            [
                (unit_rows(batch.embeddings) @ centers.T).max(axis=1)
                for batch in opened.iter_batches(_BLOCK)
            ]
        ).astype(np.float64)
    return np.array([1 - best.min(), 1 - best.mean(), np.maximum(best, 0).mean()])


def output_of(command: list[str]) -> dict:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> float:
    """MiB that this process has held at most; its parent's peak, which ru_maxrss keeps, aside."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
