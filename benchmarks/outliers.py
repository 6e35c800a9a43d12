"""How long do outliers take by all pairs, and by an index, and what does the index miss?

    python benchmarks/outliers.py --rows 100000

A store of random rows around 2,000 centres, whose spectrum decays as that of real embeddings: a
centre is one of 200 labels, one label in a hundred is wrong, and one row in a thousand is far from
all. Prints the seconds of both ways, those of building the index, the recall that is measured, and
how many of the wrong labels and of the far rows are among as many of the worst that either lists.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.machine import print_facts

from embedkit.analysis.outliers import find_outliers
from embedkit.index import Index

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stores import write_store

_CENTRES, _LABELS = 2000, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store, wrong, far = make_store(Path(folder) / "store.h5", args.rows, args.dim)
        top = len(wrong)
        began = time.perf_counter()
        exact = find_outliers(store, top=top)
        all_pairs = time.perf_counter() - began
        began = time.perf_counter()
        index = Index.build(store, Path(folder) / "index")
        building = time.perf_counter() - began
        began = time.perf_counter()
        indexed = find_outliers(store, top=top, index=index)
        by_index = time.perf_counter() - began
    print(f"{args.rows:,} rows of {args.dim}: {len(wrong):,} wrong labels, {len(far):,} far rows\n")
    print(f"{'':22}{'seconds':>9}{'labels':>9}{'far':>7}")
    for name, seconds, found in (
        ("all pairs", all_pairs, exact),
        ("by an index", by_index, indexed),
    ):
        labels = len(wrong & {one.row for one in found.labels}) / len(wrong)
        lonely = len(far & {one.row for one in found.off_topic[: len(far)]}) / len(far)
        print(f"{name:22}{seconds:9.1f}{labels:9.1%}{lonely:7.1%}")
    print(f"{'building the index':22}{building:9.1f}")
    print(f"\nthe index finds {indexed.recall:.1%} of the neighbours; ", end="")
    print(f"{all_pairs / by_index:.1f} x, {all_pairs / (by_index + building):.1f} x with building")


def make_store(path: Path, rows: int, dim: int) -> tuple[Path, set[int], set[int]]:
    """A store, the rows whose labels are wrong, and those that are far from all."""
    rng = np.random.default_rng(0)
    decay = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((_CENTRES, dim), np.float32) * decay
    centre = rng.integers(0, _CENTRES, rows)
    vectors = (centres[centre] + 0.7 * rng.standard_normal((rows, dim), np.float32) * decay).astype(
        np.float16
    )
    label = centre % _LABELS
    drawn = rng.permutation(rows)
    far, wrong = drawn[: rows // 1000], drawn[rows // 1000 :][: rows // 100]
    vectors[far] = rng.standard_normal((len(far), dim), np.float32)
    label[wrong] = (label[wrong] + rng.integers(1, _LABELS, len(wrong))) % _LABELS
    store = write_store(path, vectors, labels=[str(number) for number in label.tolist()])
    return store, set(wrong.tolist()), set(far.tolist())


if __name__ == "__main__":
    main()
