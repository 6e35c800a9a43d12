"""Indexes of clustered vectors: what embedkit chooses, beside autofaiss and hand-written FAISS.

    python benchmarks/index.py --size 200000x512 --size 200000x2048 [--peers FOLDER]

Each index is built, tuned and searched in a process of its own. Printed are the seconds and the
peak memory of the build; recall@10 of fresh queries against brute force; queries/s with all queries
at once and the milliseconds of one alone, the best of three; and the bytes a vector of the index as
it is searched. embedkit compares candidates with the store's memory-mapped rows, which stay on disk
and in the system's page cache and are counted in none of the columns, for nobody.

Hand-written FAISS reads the vectors into memory as float32, as its documentation does, trains,
adds, and doubles `nprobe` or `efSearch` until other queries reach the wanted recall. autofaiss gets
the memory that embedkit's index takes (a floor of 1 MB), once its default, and the same doubling,
as it can't be asked for a recall. `--peers` names a folder with autofaiss and its own faiss:

    pip install --target FOLDER autofaiss 'faiss-cpu<1.12' 'pyarrow<20'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from support.machine import print_facts
from support.tables import print_table
from support.vectors import clustered, num_clusters, pieces, write_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]

_K, _QUERIES, _ROUNDS, _ALONE = 10, 1000, 3, 100
_WIDEST = 4096
_HEADER = (
    "", "build s", "peak MiB", "recall@10", "queries/s", "ms alone", "bytes a vector", "",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", help="ROWSxDIM, as 200000x512; may repeat")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--peers", type=Path, help="folder in which autofaiss is installed")
    parser.add_argument("--only", help="names of contestants, as embedkit+Flat+HNSW")
    parser.add_argument("--folder", type=Path, help="where to work; needs 8 bytes a value")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_child(args.child[0], Path(args.child[1]), args.recall)))
        return
    print_facts()
    for size in args.size or ["200000x512", "200000x2048"]:
        rows, dim = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            _compare(Path(folder), rows, dim, args)


def _compare(folder: Path, rows: int, dim: int, args: argparse.Namespace) -> None:
    _run(["make", folder, rows, dim], None)
    print(f"\n{rows:,} x {dim}, cosine, wanted recall {args.recall}\n")
    names = [name for name in _CONTESTANTS if not args.only or name in args.only.split("+")]
    figures = {}
    for name in names:
        if not name.startswith("autofaiss") or args.peers:
            figures[name] = _run(
                [name, folder, "--recall", args.recall],
                args.peers if name.startswith("autofaiss") else None,
            )
            print(name, figures[name], file=sys.stderr, flush=True)
    first = figures[names[0]]
    print_table(_HEADER, [_cells(name, one) for name, one in figures.items()])
    print(f"\n{names[0]} is, beside each of the others (queries/s, build, memory, bytes a vector):")
    for name, one in list(figures.items())[1:]:
        print(
            f"  {name:22} {first['rate'] / one['rate']:6.2f} x the queries/s, "
            f"{one['build'] / first['build']:6.2f} x as quick to build, "
            f"{first['peak'] / one['peak']:5.2f} of the memory, "
            f"{first['bytes'] / one['bytes']:6.3f} of the bytes, "
            f"{first['recall'] / first['bytes'] / (one['recall'] / one['bytes']):6.2f} x the "
            "recall a byte"
        )


def _cells(name: str, one: dict[str, Any]) -> list[str]:
    return [
        name, f"{one['build']:.1f}", f"{one['peak']:.0f}", f"{one['recall']:.3f}",
        f"{one['rate']:,.0f}", f"{one['alone']:.2f}", f"{one['bytes']:.0f}", one["what"],
    ]  # fmt: skip


def _run(words: list[object], peers: Path | None) -> dict[str, Any]:
    """Runs a part of this script in a process of its own."""
    name, folder, *rest = map(str, words)
    command = [sys.executable, __file__, "--child", name, folder]
    if name == "make":
        command[-2:] = [f"make:{':'.join(rest)}", folder]
    else:
        command += rest
    paths = [*([str(peers)] if peers else []), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(name: str, folder: Path, recall: float) -> dict[str, Any]:
    if name.startswith("make:"):
        _make(folder, *map(int, name.split(":")[1:]))
        return {}
    return _CONTESTANTS[name](folder, recall)


def _make(folder: Path, rows: int, dim: int) -> None:
    """The store, the same rows as an array, queries, and the neighbours by brute force."""
    write_store(folder / "store.h5", rows, dim)
    (folder / "npy").mkdir()
    shape = (rows, dim)
    array = np.lib.format.open_memmap(folder / "npy/rows.npy", "w+", np.float32, shape)
    start = 0
    queries = clustered(2 * _QUERIES, dim, clusters=num_clusters(rows), seed=2**31)
    faiss.normalize_L2(queries)
    best = np.full((len(queries), _K), -np.inf, np.float32)
    ids = np.zeros((len(queries), _K), np.int64)
    for piece in pieces(rows, dim):
        vectors = piece.astype(np.float32)
        faiss.normalize_L2(vectors)
        array[start : start + len(vectors)] = vectors
        scores, near = faiss.knn(queries, vectors, _K, faiss.METRIC_INNER_PRODUCT)
        both, both_ids = np.hstack([best, scores]), np.hstack([ids, near + start])
        order = np.argsort(-both, axis=1)[:, :_K]
        best, ids = np.take_along_axis(both, order, 1), np.take_along_axis(both_ids, order, 1)
        start += len(vectors)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "true.npy", ids)


def _measured(
    folder: Path, search: Search, build: float, peak: float, nbytes: float, what: str
) -> dict[str, Any]:
    """Recall and times of the second half of the queries; the first is for tuning."""
    queries = np.load(folder / "queries.npy")[_QUERIES:]
    found = search(queries)
    rates, alone = [], []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        search(queries)
        rates.append(len(queries) / (time.perf_counter() - began))
        began = time.perf_counter()
        for number in range(_ALONE):
            search(queries[number : number + 1])
        alone.append(1000 * (time.perf_counter() - began) / _ALONE)
    return {
        "build": build,
        "peak": peak,
        "recall": _recall(found, np.load(folder / "true.npy")[_QUERIES:]),
        "rate": max(rates),
        "alone": min(alone),
        "bytes": nbytes / len(np.load(folder / "npy/rows.npy", mmap_mode="r")),
        "what": what,
    }


def _recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float((found[:, :, None] == true[:, None]).any(axis=1).mean())


def _peak() -> float:
    """MiB that this process has held at once; getrusage counts its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _embedkit(folder: Path, recall: float, memory: int | None = None) -> dict[str, Any]:
    from embedkit.index import Index, IndexSpec

    began = time.perf_counter()
    spec = IndexSpec(recall=recall, memory=memory)
    path = Index.build(folder / "store.h5", folder / "ours.index", spec, overwrite=True)
    build, peak = time.perf_counter() - began, _peak()
    index = Index.open(path)
    count = len(index)
    (folder / "ours.json").write_text(json.dumps(index.manifest.bytes_per_vector * count))

    def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.array([[int(name) for name in row] for row in index.search(queries, _K).ids])

    nbytes = index.manifest.bytes_per_vector * count
    what = f"{index.factory} {index.manifest.params}"
    return _measured(folder, search, build, peak, nbytes, what)


def _handwritten(folder: Path, recall: float, factory: str) -> dict[str, Any]:
    began = time.perf_counter()
    rows = np.load(folder / "npy/rows.npy")
    lists = int(4 * np.sqrt(len(rows)))
    parts = rows.shape[1] // 4
    factory = factory.format(lists=lists, quarter=parts, eighth=parts // 2)
    index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    setting = _tune(index, folder, recall)
    build, peak = time.perf_counter() - began, _peak()
    del rows
    faiss.write_index(index, str(folder / "theirs.faiss"))
    nbytes = (folder / "theirs.faiss").stat().st_size
    return _measured(
        folder, lambda q: index.search(q, _K)[1], build, peak, nbytes, f"{factory} {setting}"
    )


def _autofaiss(folder: Path, recall: float, memory: str | None) -> dict[str, Any]:
    from autofaiss import build_index

    began = time.perf_counter()
    asked = memory or f"{max(float((folder / 'ours.json').read_text()), 1e6) / 1e6:.0f}MB"
    output = folder / "autofaiss.index"
    build_index(
        str(folder / "npy"),
        str(output),
        str(folder / "autofaiss.json"),
        max_index_memory_usage=asked,
        current_memory_available="12G",
        metric_type="ip",
        verbose=50,
    )
    index = faiss.read_index(str(output))
    setting = _tune(index, folder, recall)
    build, peak = time.perf_counter() - began, _peak()
    key = json.loads((folder / "autofaiss.json").read_text())["index_key"]
    nbytes = output.stat().st_size
    return _measured(
        folder, lambda q: index.search(q, _K)[1], build, peak, nbytes, f"{key} {setting}"
    )


def _tune(index: faiss.Index, folder: Path, recall: float) -> str:
    """Doubles the effort until the first half of the queries reaches the recall."""
    queries = np.load(folder / "queries.npy")[:_QUERIES]
    true = np.load(folder / "true.npy")[:_QUERIES]
    space, setting = faiss.ParameterSpace(), ""
    space.initialize(index)
    names = {space.parameter_ranges.at(n).name for n in range(space.parameter_ranges.size())}
    name = "efSearch" if "efSearch" in names and "nprobe" not in names else "nprobe"
    if name not in names:
        return setting
    effort = 16 if name == "efSearch" else 1
    while effort <= _WIDEST:
        setting = f"{name}={effort}" + (",k_factor_rf=8" if "k_factor_rf" in names else "")
        space.set_index_parameters(index, setting)
        if _recall(index.search(queries, _K)[1], true) >= recall:
            break
        effort *= 2
    return setting


_CONTESTANTS: dict[str, Callable[[Path, float], dict[str, Any]]] = {
    "embedkit": _embedkit,
    "autofaiss": lambda folder, recall: _autofaiss(folder, recall, None),
    "autofaiss 16G": lambda folder, recall: _autofaiss(folder, recall, "16G"),
    "Flat": lambda folder, recall: _handwritten(folder, recall, "Flat"),
    "HNSW": lambda folder, recall: _handwritten(folder, recall, "HNSW32"),
    "IVF SQ8": lambda folder, recall: _handwritten(folder, recall, "IVF{lists},SQ8"),
    "IVF OPQ": lambda folder, recall: _handwritten(
        folder, recall, "OPQ{eighth},IVF{lists},PQ{eighth}"
    ),
    "IVF PQfs, refined": lambda folder, recall: _handwritten(
        folder, recall, "IVF{lists},PQ{quarter}x4fs,RFlat"
    ),
    "IVF RaBitQfs": lambda folder, recall: _handwritten(folder, recall, "IVF{lists},RaBitQfs4"),
    "IVF RaBitQfs, refined": lambda folder, recall: _handwritten(
        folder, recall, "IVF{lists},RaBitQfs,RFlat"
    ),
}


if __name__ == "__main__":
    main()
