"""What a search costs beside bare FAISS: neighbours in Parquet, filters, memory.

    python benchmarks/search.py --rows 100000 --dim 256 --queries 2000 --queries 20000

Makes a store of random rows and an exact index of it. Prints the rate of `search_to_file` with 50
neighbours a query beside that of FAISS alone on the same vectors; the peak memory for each number
of queries, each in a process of its own; and the time of a query under filters that ever fewer
images pass, beside that of no filter.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index import Index
from embedkit.retrieval import SearchConfig, open_search, search_to_file
from embedkit.store import EmbeddingStore, StoreCounts, StoreMeta
from embedkit.store.shard_builder import make_block
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import ImageFacts
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    from embedkit.retrieval.search import Search

_NEIGHBORS = 50
_FILTERS = {
    "half": ["path=*[02468].jpg"],
    "1 in 100": ["path=*00.jpg"],
    "1 in 10,000": ["path=*0000.jpg"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, action="append", help="twice or more")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        search_to_file(*args.child, k=_NEIGHBORS)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    sizes = args.queries or [2000, 20_000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_store(folder / "a.h5", args.rows, args.dim, "")
        index = Index.build(folder / "a.h5", folder / "a.index")
        for size in sizes:
            _write_store(folder / f"q{size}.h5", size, args.dim, "query ", seed=size)
        print(f"{args.rows:,} x {args.dim}, cosine, exact\n")
        _rates(folder, index, sizes[0])
        _memory(folder, index, sizes)
        _filters(folder, index)


def _write_store(path: Path, rows: int, dim: int, prefix: str, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    facts = [
        ImageFacts(64, 48, 1000, "JPEG", hashlib.sha256(b"%d %d" % (seed, row)).digest(), row)
        for row in range(rows)
    ]
    names = [f"{prefix}photos/{row:07d}.jpg" for row in range(rows)]
    vectors = rng.standard_normal((rows, dim), np.float32).astype(np.float16)
    block = make_block(names, vectors, facts, [None] * rows)
    meta = StoreMeta(
        backbone="tiny", weights_fingerprint="", weights="random:0", licence="none",
        preprocessing={}, pooling={}, feature_dim=dim, dtype="float16", normalized=False,
        decode={}, engine={}, source=[], plan_hash="", embedkit_version="", head_applies=False,
    )  # fmt: skip
    counts = StoreCounts(rows, 0, 0)
    commit_bytes(path, encode_shard(ShardContent(meta, counts, [block], [], False, None)))


def _rates(folder: Path, index: Path, queries: int) -> None:
    with EmbeddingStore.open(folder / "a.h5") as store:
        rows = store.to_numpy(np.float32)
    with EmbeddingStore.open(folder / f"q{queries}.h5") as store:
        asked = store.to_numpy(np.float32)
    for vectors in (rows, asked):
        faiss.normalize_L2(vectors)
    bare = faiss.IndexFlatIP(rows.shape[1])
    bare.add(rows)
    opened = Index.open(index)
    times: dict[str, float] = {"FAISS alone": np.inf, "embedkit, to Parquet": np.inf}
    for _ in range(3):
        began = time.perf_counter()
        for start in range(0, queries, 1024):
            bare.search(asked[start : start + 1024], _NEIGHBORS)
        times["FAISS alone"] = min(times["FAISS alone"], time.perf_counter() - began)
        began = time.perf_counter()
        search_to_file(
            opened, folder / f"q{queries}.h5", folder / "r.parquet", _NEIGHBORS, overwrite=True
        )
        ours = time.perf_counter() - began
        times["embedkit, to Parquet"] = min(times["embedkit, to Parquet"], ours)
    print(f"{queries:,} queries, {_NEIGHBORS} neighbours; the best of three")
    print(f"{'':22}{'queries/s':>10}{'ratio':>8}")
    for name, seconds in times.items():
        print(f"{name:22}{queries / seconds:>10.0f}{times['FAISS alone'] / seconds:>8.2f}")


def _memory(folder: Path, index: Path, sizes: list[int]) -> None:
    peaks = []
    for size in sizes:
        command = [sys.executable, __file__, "--child", index]
        command += [folder / f"q{size}.h5", folder / f"m{size}.parquet"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout.split()[-1]))
    print(f"\n{'queries':>10}{'peak MiB':>10}{'ratio':>8}")
    for size, peak in zip(sizes, peaks, strict=True):
        print(f"{size:>10,}{peak:>10.0f}{peak / peaks[0]:>8.2f}")


def _filters(folder: Path, index: Path, count: int = 20) -> None:
    opened = Index.open(index)
    rng = np.random.default_rng(5)
    with EmbeddingStore.open(folder / "a.h5") as store:
        names = [f"id:{store.ids[row]}" for row in rng.integers(0, len(store), count).tolist()]
    print(f"\n{count} queries at once, k = 10; the best of three")
    print(f"{'passing':>12}{'ms a query':>12}{'ratio':>8}{'to open, s':>12}")
    plain = None
    for passing, filters in {"all": [], **_FILTERS}.items():
        began = time.perf_counter()
        with open_search(opened, names, 10, SearchConfig(filters=filters)) as ready:
            opening = time.perf_counter() - began
            each = min(_seconds(ready) for _ in range(4)) / count  # the first looks the ids up
        plain = plain or each
        print(f"{passing:>12}{1000 * each:>12.1f}{each / plain:>8.1f}{opening:>12.2f}")


def _seconds(ready: Search) -> float:
    began = time.perf_counter()
    for _ in ready.results():
        pass
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
