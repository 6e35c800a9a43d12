"""What does comparing checksums cost where rows are read?

    python benchmarks/checksums.py [--rows 100000] [--dim 2048] [--repeats 5]

Writes a store of random float16 rows. Then reads all rows, builds an index (SQ8), classifies and
opens the store, each with checksums compared and not, in turn; prints the best seconds of both
ways and their ratio, from one run. What is compared is read from the page cache, which is the
worst case: a disk takes longer than SHA-256.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from support.machine import print_facts
from support.tables import print_table

from embedkit.analysis.classification.classify import classify
from embedkit.index import Index, IndexSpec
from embedkit.store import EmbeddingStore
from embedkit.store.format import BLOCK_ROWS, StoreCounts, StoreMeta
from embedkit.store.reader import ShardFile
from embedkit.store.shard_builder import make_block
from embedkit.store.writer import ShardContent, write_shard
from embedkit.types import Head, ImageFacts
from embedkit.utils.atomic_write import atomic_file

CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "rows.h5"
        write(store, args.rows, args.dim)
        jobs = {
            "read all rows": lambda: read(store),
            "index build, SQ8": lambda: build(store),
            "classify": lambda: sum(1 for _ in classify(store)),
        }
        rows = []
        for name, job in jobs.items():
            with_checks, without = best_of(job, args.repeats)
            ratio = f"{with_checks / without:.3f}"
            rows.append([name, f"{with_checks:.2f}", f"{without:.2f}", ratio])
    print(f"{args.rows:,} rows x {args.dim} float16")
    print_table(["job", "with checksums, s", "without, s", "ratio"], rows)


def best_of(job: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The best seconds with checksums and without, in turn."""
    job()
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for checked, seconds in times.items():
            check = ShardFile.check if checked else (lambda *_: None)
            with patch.object(ShardFile, "check", check):
                start = time.perf_counter()
                job()
                seconds.append(time.perf_counter() - start)
    return min(times[True]), min(times[False])


def read(path: Path) -> None:
    with EmbeddingStore.open(path) as store:
        for batch in store.iter_batches():
            batch.embeddings.sum(dtype=np.float32)


def build(path: Path) -> None:
    Index.build(path, path.with_suffix(".index"), IndexSpec(factory="SQ8"), overwrite=True)


def write(path: Path, rows: int, dim: int) -> None:
    rng = np.random.default_rng(0)

    def parts():
        for start in range(0, rows, BLOCK_ROWS):
            numbers = range(start, min(start + BLOCK_ROWS, rows))
            facts = [ImageFacts(1, 1, 1, "JPEG", bytes(32), number) for number in numbers]
            values = rng.standard_normal((len(numbers), dim), np.float32).astype(np.float16)
            names = [f"{number:09d}.jpg" for number in numbers]
            yield make_block(names, values, facts, [None] * len(names))

    names = tuple(f"class {number}" for number in range(CLASSES))
    weight = rng.standard_normal((CLASSES, dim), np.float32)
    head = Head(weight, np.zeros(CLASSES, np.float32), names, ())
    meta = StoreMeta(
        backbone="tiny", weights_fingerprint="f" * 64, weights="random:0", licence="none",
        preprocessing={"resize": 256, "crop": 224, "interpolation": "bilinear"},
        pooling={"pooling": "avg", "gem_p": None, "layers": None, "flip": False},
        feature_dim=dim, dtype="float16", normalized=False,
        decode={"decoder": "exact", "background": [0, 0, 0], "max_pixels": 1, "max_bytes": 1},
        engine={"name": "none", "device": "cpu", "precision": "float32", "batch_size": 1},
        source=("random",), plan_hash="0" * 64, embedkit_version="0", head_applies=True,
    )  # fmt: skip
    with atomic_file(path) as file:
        write_shard(file, ShardContent(meta, StoreCounts(rows, 0, 0), parts(), (), False, head))


if __name__ == "__main__":
    main()
