"""How well are edited copies found, from mild edits to brutal ones?

    python benchmarks/copies.py --images photos/ --distractors caltech20/

150 photographs are edited in 25 ways each (benchmarks/edits.py) and 600 others are put beside them:
3,750 queries, each a copy of one of 750 images. All pairs of a query and an image make one ranking:
micro-AP, and the recall at the threshold where its precision is 0.99. One run compares

    cosine       of the embeddings of EfficientNet-Lite0
    whitened     the cosine after whitening to 256 dimensions, learned on the 750 images
    sum          the cosine and 1 - d / 64 of the perceptual hashes
    PHash, DHash of imagededup
    embedkit     ``find_pairs`` without pixels
    embedkit, verified   ``find_pairs`` with pixels

The calibrations that score without pixels come from ``embedkit.calibrate``, whose edits are others,
on half of the photographs and of the distractors; each scores the queries that were made of the
other half. Verified pairs are scored by one model, which is a part of embedkit. Pairs that aren't
found rank last.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from numpy.typing import NDArray
from PIL import Image

from embedkit import EmbeddingStore, extract
from embedkit.dedup import find_pairs
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring.calibrate import calibrate
from embedkit.extraction.source_images import OriginalImages
from embedkit.metrics import micro_ap, recall_at_precision

PRECISION = 0.99


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        run(args, Path(folder))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--distractors", type=Path, required=True)
    parser.add_argument("--originals", type=int, default=150)
    parser.add_argument("--copied", type=int, default=150, help="images to calibrate on copies of")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    return parser.parse_args()


def run(args: argparse.Namespace, folder: Path) -> None:
    photos = images_of(args.images)
    # What copies are pasted into isn't among the references, of which it would be a copy too.
    photos, apart = photos[: args.originals], photos[args.originals :]
    others = images_of(args.distractors)
    print(f"{len(photos)} photographs x {len(EDITS)} edits, {len(others)} distractors")
    references = link([*photos, *others], folder / "references")
    halves = [link([*photos[h::2], *others[h::2]], folder / f"half-{h}") for h in (0, 1)]
    for half in (0, 1):
        edit(photos[half::2], apart, folder / f"queries-{half}")
    stores = {
        name: embed(folder / name, folder / f"{name}.h5")
        for name in ("references", "half-0", "half-1", "queries-0", "queries-1")
    }
    scores: dict[str, list[NDArray[np.float64]]] = {}
    truths, kinds = [], []
    for half in (0, 1):
        began = time.perf_counter()
        # Of the other half: what scores a query has seen neither it nor its original.
        report = calibrate(
            stores[f"half-{1 - half}"], halves[1 - half], originals=args.copied, precision=PRECISION
        )
        print(f"calibrated in {time.perf_counter() - began:.0f} s on {report.copies} copies")
        found, truth, kind = score(stores[f"queries-{half}"], stores["references"], folder, report)
        truths.append(truth)
        kinds += kind
        for name, values in found.items():
            scores.setdefault(name, []).append(values)
    rankings = {name: np.concatenate(parts) for name, parts in scores.items()}
    rankings |= peers(folder, references)
    print_table(rankings, np.concatenate(truths), np.array(kinds))


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})


def link(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / f"{file.parent.name}-{file.stem}.jpg").symlink_to(file.resolve())
    return folder


def edit(photos: Sequence[Path], apart: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    others = [Image.open(path).convert("RGB") for path in apart]
    for photo in photos:
        image = Image.open(photo).convert("RGB")
        for number, change in enumerate(EDITS.values()):
            rng = np.random.default_rng([number, *photo.stem.encode()])
            other = others[int(rng.integers(len(others)))]
            target = folder / f"{number:02d}-{photo.parent.name}-{photo.stem}.jpg"
            target.write_bytes(encode(change(image, rng, other)))


def embed(folder: Path, output: Path) -> Path:
    extract(folder, output, backbone="efficientnet_lite0", labels="none")
    return output


def score(
    queries: Path, references: Path, folder: Path, report: object
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_], list[str]]:
    """Each ranking's scores of all pairs, ``(Q, N)``, which pairs are true, and the edits."""
    with EmbeddingStore.open(queries) as asked, EmbeddingStore.open(references) as known:
        left, right = (unit(store.to_numpy(np.float64)) for store in (asked, known))
        mine, theirs = (store.images("phash").astype(np.uint64) for store in (asked, known))
        names = [Path(name).name for name in known.ids]
        ids = list(asked.ids)
        kinds = [list(EDITS)[int(Path(name).name[:2])] for name in ids]
        truth = np.zeros((len(left), len(right)), bool)
        for row, name in enumerate(ids):
            truth[row, names.index(Path(name).name[3:])] = True
        ids += known.ids
    whiten = whitening(right, 256)
    distance = np.bitwise_count(mine[:, None] ^ theirs[None])
    out = {
        "cosine": left @ right.T,
        "whitened": whiten(left) @ whiten(right).T,
        "sum": left @ right.T + 1 - distance / 64,
    }
    for name, verify in (("embedkit", False), ("embedkit, verified", True)):
        out[name] = np.full(truth.shape, -1.0)
        began = time.perf_counter()
        sources = [folder / queries.stem, folder / references.stem]
        with OriginalImages.of_source(sources, ids) as pixels:
            config = DedupConfig(threshold=0.0, calibration=report.calibration)
            found = find_pairs(
                queries, config, against=references, verify=pixels if verify else None
            )
        out[name][found.first, found.second] = found.score
        looked = int((found.verified >= 0).sum())
        print(f"{name}: {time.perf_counter() - began:.0f} s, {len(found):,} pairs scored, "
              f"{looked:,} compared on their pixels")  # fmt: skip
    return out, truth, kinds


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def whitening(
    rows: NDArray[np.float64], dim: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    mean = rows.mean(0)
    _, values, vectors = np.linalg.svd(rows - mean, full_matrices=False)
    matrix = vectors[:dim].T / values[:dim]
    return lambda some: unit((some - mean) @ matrix)


def peers(folder: Path, references: Path) -> dict[str, NDArray[np.float64]]:
    """The negative distances of imagededup's hashes; nothing where it isn't installed."""
    try:
        from imagededup.methods import DHash, PHash
    except ImportError as exc:
        print(f"imagededup isn't measured: {exc}", file=sys.stderr)
        return {}
    out = {}
    for name, method in (("PHash", PHash(verbose=False)), ("DHash", DHash(verbose=False))):
        known = hashes(method.encode_image, references)
        asked = np.concatenate(
            [hashes(method.encode_image, folder / f"queries-{h}") for h in (0, 1)]
        )
        out[name] = -np.bitwise_count(asked[:, None] ^ known[None]).astype(float)
    return out


def hashes(encode_image: Callable[..., str], folder: Path) -> NDArray[np.uint64]:
    files = sorted(folder.iterdir())
    return np.array([int(encode_image(image_file=str(file)), 16) for file in files], np.uint64)


def print_table(
    rankings: dict[str, NDArray[np.float64]], truth: NDArray[np.bool_], kinds: NDArray[np.str_]
) -> None:
    print(f"\n{'micro-AP, recall at 0.99':26}" + "".join(f"{name:>20}" for name in rankings))
    bars = {}
    cells = []
    for name, scores in rankings.items():
        recall, bars[name] = recall_at_precision(
            scores.ravel(), truth.ravel(), PRECISION, positives=len(truth)
        )
        area = micro_ap(scores.ravel(), truth.ravel(), positives=len(truth))
        cells.append(f"{area:.3f}  {recall:.3f}")
    print(f"{'all':26}" + "".join(f"{cell:>20}" for cell in cells))
    for kind in EDITS:
        mine = kinds == kind
        cells = []
        for name, scores in rankings.items():
            area = micro_ap(scores[mine].ravel(), truth[mine].ravel(), positives=int(mine.sum()))
            # At the one threshold of the whole ranking, as a user has one threshold.
            recall = (scores[mine][truth[mine]] >= bars[name]).mean()
            cells.append(f"{area:.3f}  {recall:.3f}")
        print(f"{kind:26}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
