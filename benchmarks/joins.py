"""How fast is every pair above a threshold found, and in how much memory?

    python benchmarks/joins.py --images photos/ caltech20/ --sizes 20000,100000,500000 --million
    python benchmarks/joins.py --images photos/ caltech20/ --sizes '' --find 100000,1000000
    python benchmarks/joins.py --rows caltech101.h5 copies.h5

The vectors: real EfficientNet-Lite0 embeddings of random crops and collages of the images (10,000
of them, 512 of their 1280 features), and for larger sets e + (f - g) / 2 of three of these drawn at
random, of unit length: their spectrum decays as that of real ones. One row in fifty is near another
row. All are float16, as a store keeps them.

Each figure comes from a process of its own, on the same file: embedkit's exact join; faiss
``range_search`` on a flat index (of a slice of the rows as queries, where all would take hours; the
time is linear in the queries); imagededup's ``CNN.find_duplicates`` on the same vectors, up to
20,000, as it holds the whole matrix. What takes less than a second is run five times, in turns with
faiss, and the medians are told. That embedkit's pairs are faiss's is checked on the slice, but
for those whose cosine is within 1e-5 of the threshold, where float32 decides otherwise.

``--rows`` joins the rows of stores (or ``.npy`` files) as they are, in all their dimensions: each
by itself, and all together.

``--find`` runs the whole search of a store, from the choice of candidates to scores: within cells
from a cosine of 0.9 on, and as ``dedup find`` does it unless told otherwise, in cells and exactly.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

DIM = 512
SHORT, REPEATS = 1.0, 5  # seconds, and how often what takes less is run


def main() -> None:
    args = parse_arguments()
    if args.part:
        print(json.dumps(PARTS[args.part](args)))
        sys.exit()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if args.rows:
            as_they_are(Path(folder), args)
            return
        base = args.views or embed_views(args.images, args.base)
        print(f"threshold {args.threshold}, {len(os.sched_getaffinity(0))} cores, {DIM} dimensions")
        for size in map(int, filter(None, args.sizes.split(","))):
            data = grow(np.load(base), size, Path(folder) / f"{size}.npy")
            compare(data, size, args)
            data.unlink()
        if args.million:
            million(np.load(base), Path(folder), args)
        for size in map(int, filter(None, args.find.split(","))):
            find(np.load(base), size, Path(folder), args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    parser.add_argument("--views", type=Path, help="embeddings of an earlier run, .npy")
    parser.add_argument("--rows", type=Path, nargs="+", default=[], help="stores, or .npy files")
    parser.add_argument("--base", type=int, default=10_000, help="crops and collages to embed")
    parser.add_argument("--sizes", default="20000,100000,500000")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--queries", type=int, default=8192, help="faiss asks for so many at most")
    parser.add_argument("--full", action="store_true", help="ask faiss for every row: hours")
    parser.add_argument("--million", action="store_true", help="a store of 1,000,000 rows too")
    parser.add_argument("--find", default="", help="sizes of stores to search as by default")
    parser.add_argument("--scratch", type=Path, help="folder for a few GB")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.full:
        args.queries = sys.maxsize
    if not (args.part or args.views or args.images or args.rows):
        parser.error("give --images, --views or --rows")
    return args


def embed_views(images: list[Path], count: int) -> Path:
    """Embeds random crops, half of them with a crop of another image beside them."""
    from embedkit.backbones import load_backbone
    from embedkit.engines import open_engine

    every = sorted(path for folder in images for path in folder.rglob("*"))
    files = [path for path in every if path.suffix.lower() in {".jpg", ".jpeg"}]
    photos = [Image.open(path).convert("RGB") for path in files]
    rng = np.random.default_rng(0)
    rows: list[NDArray[np.float32]] = []
    with open_engine(load_backbone("efficientnet_lite0"), device="cpu") as engine:
        while sum(map(len, rows)) < count:
            views = [draw_view(photos, rng) for _ in range(engine.batch_size)]
            rows.append(engine.embed(np.stack(views)))
    output = Path(tempfile.gettempdir()) / "embedkit-views.npy"
    np.save(output, np.concatenate(rows))
    print(f"{count} crops and collages of {len(files)} images: --views {output}")
    return output


def draw_view(photos: list[Image.Image], rng: np.random.Generator) -> NDArray[np.uint8]:
    view = draw_crop(photos[rng.integers(len(photos))], (224, 224), rng)
    if rng.random() < 0.5:
        part = int(rng.integers(60, 164))
        size = (part, 224) if rng.random() < 0.5 else (224, part)
        view.paste(draw_crop(photos[rng.integers(len(photos))], size, rng), (0, 0))
    return np.asarray(view)


def draw_crop(photo: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    area = rng.uniform(0.1, 0.7) * photo.width * photo.height
    ratio = np.exp(rng.uniform(-0.4, 0.4))
    width = min(photo.width, int(np.sqrt(area * ratio)))
    height = min(photo.height, int(np.sqrt(area / ratio)))
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    return photo.resize(size, 2, box=(left, top, left + width, top + height))


def grow(base: NDArray[np.floating], count: int, path: Path) -> Path:
    """Writes ``count`` rows made of the base's."""
    base = unit(base[:, :DIM].astype(np.float32))
    rng = np.random.default_rng(count)
    out = open_memmap(path, "w+", np.float16, (count, DIM))
    for start in range(0, count, 20_000):
        many = min(20_000, count - start)
        one, two, three = rng.integers(0, len(base), (3, many))
        rows = base[one]
        if count > len(base):
            rows = unit(rows + 0.5 * (base[two] - base[three]))
        near = np.flatnonzero(rng.random(many) < 0.02)
        shift = base[rng.integers(0, len(base), len(near))]
        shift = shift - base[rng.integers(0, len(base), len(near))]
        rows[near] = rows[rng.integers(0, many, len(near))] + 0.25 * shift
        out[start : start + many] = unit(rows)
    out.flush()
    return path


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_they_are(folder: Path, args: argparse.Namespace) -> None:
    """Joins given rows, each file by itself and all together."""
    import embedkit

    parts = {
        path.stem: np.load(path)
        if path.suffix == ".npy"
        else embedkit.EmbeddingStore.open(path).embeddings[:]
        for path in args.rows
    }
    if len(parts) > 1:
        parts["all together"] = np.concatenate(list(parts.values()))
    for name, rows in parts.items():
        data = folder / f"{len(rows)}.npy"
        np.save(data, rows.astype(np.float16))
        print(f"\n{name}: {rows.shape[1]} dimensions", end="")
        compare(data, len(rows), args)


def compare(data: Path, size: int, args: argparse.Namespace) -> None:
    print(f"\n{size:,} rows")
    turns = [in_turn(data, args)]
    if turns[0][0]["seconds"] < SHORT:
        turns += [in_turn(data, args) for _ in range(REPEATS - 1)]
    mine, faiss = (sorted(side, key=seconds_of) for side in zip(*turns, strict=True))
    middle = mine[len(mine) // 2]
    tell("embedkit", mine, f"{middle['pairs']} pairs")
    faster = f"embedkit is {seconds_of(faiss[len(faiss) // 2]) / middle['seconds']:.1f} x"
    asked = "" if faiss[0]["queries"] == size else f", from {faiss[0]['queries']:,} queries"
    tell("faiss range_search", faiss, faster + asked)
    same = check(data, middle["file"], faiss[0]["file"], faiss[0]["queries"], args.threshold)
    print(f"  {'':26}{same}")
    if args.rows:
        return
    if size > 20_000:
        print(
            f"  {'imagededup CNN':26}{'-':>9}    a matrix of {2 * size**2 / 1e9:,.0f} GB: not run"
        )
        return
    peer = run("imagededup", data, args)
    tell("imagededup CNN", [peer], f"embedkit is {peer['seconds'] / middle['seconds']:.1f} x")


def in_turn(data: Path, args: argparse.Namespace) -> tuple[dict, dict]:
    return run("embedkit", data, args), run("faiss", data, args)


def seconds_of(found: dict) -> float:
    """For all rows, if only some were asked for."""
    return found["seconds"] * found.get("share", 1)


def tell(name: str, runs: list[dict], more: str) -> None:
    """A line of what the middle one of some runs, sorted by time, took."""
    middle = runs[len(runs) // 2]
    spread = f" ({seconds_of(runs[0]):.2f} to {seconds_of(runs[-1]):.2f})" if len(runs) > 1 else ""
    print(f"  {name:26}{seconds_of(middle):9.2f} s{spread}  {middle['peak']:6.2f} GB  {more}")


def run(part: str, data: Path, args: argparse.Namespace) -> dict:
    options = ["--threshold", str(args.threshold), "--queries", str(args.queries)]
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, "--data", str(data), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{part}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def check(data: Path, mine: str, theirs: str, queries: int, threshold: float) -> str:
    """Compares the pairs of the queries, but for those that rounding decides."""
    found, other = np.load(mine), np.load(theirs)
    found = found[(found[:, 0] < queries)]
    other = other[other[:, 0] < other[:, 1]]
    sets = [set(map(tuple, pairs.tolist())) for pairs in (found, other)]
    rows = np.load(data, "r")
    differing = np.array(sorted(sets[0] ^ sets[1]), np.int64).reshape(-1, 2)
    left, right = (rows[differing[:, side]].astype(np.float64) for side in (0, 1))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    clear = np.abs((left * right).sum(1) / norms - threshold) > 1e-5
    word = "the same pairs" if not clear.any() else f"{clear.sum()} PAIRS DIFFER"
    return f"{word} ({len(sets[0]):,} of these queries; {len(differing)} at the threshold's edge)"


def run_embedkit(args: argparse.Namespace) -> dict:
    from embedkit.dedup.candidates.exact_join import exact_join
    from embedkit.dedup.unit_rows import UnitRows

    rows = np.load(args.data, "r")
    began = time.perf_counter()
    first, second, _ = exact_join(UnitRows(rows), args.threshold)
    seconds = time.perf_counter() - began
    return told(seconds, args, "embedkit", np.stack([first, second], axis=1))


def run_faiss(args: argparse.Namespace) -> dict:
    import faiss

    rows = np.load(args.data).astype(np.float32)
    faiss.normalize_L2(rows)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    queries = min(len(rows), args.queries)
    began = time.perf_counter()
    limits, _, found = index.range_search(rows[:queries], args.threshold)
    seconds = time.perf_counter() - began
    first = np.repeat(np.arange(queries), np.diff(limits.astype(np.int64)))
    pairs = np.stack([first, found], axis=1)
    return told(seconds, args, "faiss", pairs, queries=queries, share=len(rows) / queries)


def run_imagededup(args: argparse.Namespace) -> dict:
    import torch
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    rows = np.load(args.data).astype(np.float32)
    encodings = {str(number): row for number, row in enumerate(rows)}
    model = CustomModel(name="none", model=torch.nn.Identity(), transform=lambda image: image)
    finder = CNN(verbose=False, model_config=model)
    began = time.perf_counter()
    finder.find_duplicates(encoding_map=encodings, min_similarity_threshold=args.threshold)
    return told(time.perf_counter() - began, args, "imagededup", np.empty((0, 2)))


def told(
    seconds: float, args: argparse.Namespace, part: str, pairs: NDArray, **more: float
) -> dict[str, object]:
    file = args.data.with_name(f"{part}-{args.data.name}")
    np.save(file, pairs)
    usage = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    peak = max(usage) / 2**20
    return {"seconds": seconds, "peak": peak, "pairs": len(pairs), "file": str(file), **more}


def million(base: NDArray[np.floating], folder: Path, args: argparse.Namespace) -> None:
    """Finds the pairs of a store of a million rows, perceptual hashes and scores and all."""
    size = 1_000_000
    found = run("store", make_store(base, size, folder), args)
    print(f"\n{size:,} rows of a store: {found['seconds']:.0f} s, peak {found['peak']:.2f} GB, "
          f"{found['pairs']:,} pairs")  # fmt: skip


def make_store(base: NDArray[np.floating], size: int, folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from stores import write_store

    data = grow(base, size, folder / f"{size}.npy")
    store = write_store(folder / f"{size}.h5", np.load(data, "r"))
    data.unlink()
    return store


def find(base: NDArray[np.floating], size: int, folder: Path, args: argparse.Namespace) -> None:
    """Searches a store from a cosine on, and as by default."""
    store = make_store(base, size, folder)
    print(f"\n{size:,} rows of a store")
    words = {
        "store-cells": f"approximate, cosine {args.threshold}",
        "default-cells": "approximate, by default",
        "default": "exact, by default",
    }
    for part, how in words.items():
        found = run(part, store, args)
        recall = f", recall {found['recall']:.3f} by a sample" if found["recall"] else ""
        print(f"  {how:26}{found['seconds']:9.1f} s  {found['peak']:6.2f} GB  "
              f"{found['pairs']:,} pairs scored{recall}", flush=True)  # fmt: skip
    store.unlink()


def run_store(args: argparse.Namespace, *, exact: bool = True, default: bool = False) -> dict:
    from embedkit.dedup import find_pairs
    from embedkit.dedup.config import DedupConfig

    began = time.perf_counter()
    config = DedupConfig(
        min_cosine=None if default else args.threshold, threshold=0.0,
        mode="exact" if exact else "approximate",
    )  # fmt: skip
    pairs = find_pairs(args.data, config)
    both = np.stack([pairs.first, pairs.second], axis=1)
    seconds = time.perf_counter() - began
    return told(seconds, args, "store", both, recall=pairs.info.recall)


PARTS = {
    "embedkit": run_embedkit,
    "faiss": run_faiss,
    "imagededup": run_imagededup,
    "store": run_store,
    "store-cells": partial(run_store, exact=False),
    "default": partial(run_store, default=True),
    "default-cells": partial(run_store, exact=False, default=True),
}

if __name__ == "__main__":
    main()
