"""A store larger than the memory that indexing it may take.

    python benchmarks/index_memory.py --rows 1000000 --dim 2048 --limit-mib 1536

Makes a store (4.1 GB by default), then builds an index of it in a process that may have no more
data than the limit: RLIMIT_DATA, which counts what a process allocates, and not the pages of files
that it maps. An address-space limit (`ulimit -v`) would count those, too, though the system can
take them back at any time. Printed are the limit, the most anonymous memory and the most resident
memory that the process had, and how long it took; a process that needs more than the limit fails.
Another process, under the same limit, then opens the index and searches it with fresh queries.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from support.machine import print_facts
from support.vectors import clustered, num_clusters

_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--limit-mib", type=int, default=1536)
    parser.add_argument("--factory", default="auto")
    parser.add_argument("--folder", type=Path, help="where to work; needs twice the store's size")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        resource.setrlimit(resource.RLIMIT_DATA, (args.limit_mib * _MIB, args.limit_mib * _MIB))
        if args.search:
            _search(args.child[1], args.rows, args.dim)
        else:
            _build(*args.child, args.factory, args.limit_mib)
        return
    print_facts()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = Path(folder) / "store.h5"
        make = f"from pathlib import Path; from support.vectors import write_store; \
write_store(Path({str(store)!r}), {args.rows}, {args.dim})"
        subprocess.run([sys.executable, "-c", make], check=True, cwd=Path(__file__).parent)
        print(f"store: {store.stat().st_size / 1e9:.2f} GB, {args.rows:,} x {args.dim} float16")
        command = [sys.executable, __file__, "--limit-mib", str(args.limit_mib)]
        command += ["--rows", str(args.rows), "--dim", str(args.dim)]
        command += ["--factory", args.factory, "--child", store, f"{folder}/made.index"]
        for step in ([], ["--search"]):
            sys.stdout.flush()
            subprocess.run([*command, *step], check=True)


def _build(store: str, output: str, factory: str, limit_mib: int) -> None:
    from embedkit.index import Index, IndexSpec

    peaks, ended = {"RssAnon": 0, "VmRSS": 0, "VmData": 0}, threading.Event()
    watcher = threading.Thread(target=_watch, args=(peaks, ended), daemon=True)
    watcher.start()
    began = time.perf_counter()
    Index.build(store, output, IndexSpec(factory=factory))
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    print(
        f"built in {seconds:.0f} s under RLIMIT_DATA {limit_mib} MiB; at most "
        f"{peaks['VmData'] / 1024:.0f} MiB of data, {peaks['RssAnon'] / 1024:.0f} MiB of it "
        f"resident, {peaks['VmRSS'] / 1024:.0f} MiB resident with mapped files"
    )


def _search(path: str, rows: int, dim: int) -> None:
    from embedkit.index import Index

    queries = clustered(1000, dim, clusters=num_clusters(rows), seed=2**31)
    with Index.open(path, check="fast") as index:
        size = index.manifest.bytes_per_vector * len(index) / _MIB
        index.search(queries)
        began = time.perf_counter()
        index.search(queries)
        rate = len(queries) / (time.perf_counter() - began)
        measured = index.evaluate(queries[:200])
        print(
            f"{index.factory}, {index.manifest.params}: {size:.0f} MiB, recall@10 "
            f"{measured.recall_at_10:.3f}, {rate:,.0f} queries/s"
        )


def _watch(peaks: dict[str, int], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in peaks:
                peaks[name] = max(peaks[name], int(value.split()[0]))


if __name__ == "__main__":
    main()
