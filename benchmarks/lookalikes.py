"""How well are copies told from look-alikes: other photographs of the same people?

    python benchmarks/lookalikes.py --faces caltech101/
    python benchmarks/lookalikes.py --edits photos/ --distractors caltech20/
    python benchmarks/lookalikes.py --images photos/ --truth pairs.csv

``--faces`` is a folder with ``Faces`` and ``Faces_easy`` of Caltech-101: portraits of some 20
people, and a crop of each. A pair is right only if the one is the crop of the other; all else is
another photograph, often of the same person. ``--edits`` puts 40 photographs, each edited in 25
ways (benchmarks/edits.py), and distractors in one store: all pairs of a photograph's copies are
right. ``--truth`` is a CSV with the columns ``first`` and
``second``, the true pairs as paths below ``--images``; all other pairs are wrong. Each step of
embedkit's search is a row, from the cosine to verified pairs, and so is each peer that is
installed. Scores:

    cosine, whitened cosine   of all pairs
    candidates       the nearest by either, in the order of their ranks
    votes            the pairs that keypoints vote for, in their order
    embedkit         the fused score, without pixels
    embedkit, verified   the pixels, one image laid over the other
    PHash, CNN       of imagededup, with its default thresholds
    fastdup          with the 20 nearest of each image; its default threshold is 0.9
    SIFT + MAGSAC    inliers of the 20 nearest by cosine; from 10 on, as in OpenCV's tutorial

Pairs that a method gives no score count as not found; the first column is the share of the true
pairs that have one. The time is that of one core, in all threads of this process, per image;
embedkit's and SIFT's are beyond embedding.
"""

import argparse
import csv
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from copies import edit
from numpy.typing import NDArray
from peers.sift_magsac import LEAST_INLIERS, inliers
from PIL import Image
from support.machine import print_facts
from support.numbered import embed, images_below, link, numbers_of, search
from support.rankings import (
    SURE,
    Scored,
    Truth,
    area,
    calibration_error,
    precision_and_recall,
    recall_at,
)
from support.tables import print_table
from support.timing import cpu_timed

from embedkit import EmbeddingStore
from embedkit.dedup.candidates.collect import find_candidates
from embedkit.dedup.candidates.ranked_pairs import RankedPairs, rank_candidates
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring.background import Whitening
from embedkit.dedup.scoring.cosine_rule import COSINE_THRESHOLD
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.keypoint_votes import voted_pairs
from embedkit.utils.threads import usable_cores

PRECISION = 0.99
NEAREST = 20
PHASH_BITS, CNN_COSINE, FASTDUP_SIMILARITY = 10, 0.9, 0.9
HEADER = (
    "step", "scored", "micro-AP", "recall at precision .99", "default: precision", "recall",
    "score >= .99: precision", "recall", "calibration error", "ms per image",
)  # fmt: skip

Peer = Callable[[Path], Scored]


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        files, truth = images_and_truth(args, Path(name))
        print(f"{len(files):,} images, {len(truth):,} true pairs\n")
        folder = link(files, Path(name) / "images")
        embed(folder, args.backbone)
        steps = embedkit_steps(folder)
        steps["imagededup PHash"] = of_peer(phash, folder)
        steps["imagededup CNN"] = of_peer(cnn, folder)
        steps["fastdup"] = of_peer(fastdup, folder)
        steps["SIFT + MAGSAC"] = sift_magsac(files, steps["cosine"])
    print_table(HEADER, [row(step, found, truth, len(files)) for step, found in steps.items()])


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, help="a folder with Faces and Faces_easy")
    parser.add_argument("--edits", type=Path, help="a folder of photographs to edit")
    parser.add_argument("--distractors", type=Path, help="a folder of others, with --edits")
    parser.add_argument("--originals", type=int, default=40, help="photographs that are edited")
    parser.add_argument("--images", type=Path, help="any folder of images, with --truth")
    parser.add_argument("--truth", type=Path, help="a CSV of the true pairs: first,second")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args(arguments)
    pairs = (args.images, args.truth), (args.edits, args.distractors)
    given = [
        args.faces is not None,
        *(one is not None and other is not None for one, other in pairs),
    ]
    if sum(given) != 1 or any((one is None) != (other is None) for one, other in pairs):
        parser.error("give --faces, or --edits and --distractors, or --images and --truth")
    return args


def images_and_truth(args: argparse.Namespace, folder: Path) -> tuple[list[Path], Truth]:
    if args.faces:
        return faces(args.faces)
    if args.edits:
        return edited(args.edits, args.distractors, args.originals, folder / "edits")
    return listed(args.images, args.truth)


def edited(
    photos: Path, distractors: Path, originals: int, folder: Path
) -> tuple[list[Path], Truth]:
    """Photographs, their edited copies, and others."""
    chosen, others = images_below(photos), images_below(distractors)
    chosen, apart = chosen[:originals], chosen[originals:]  # the others are pasted into
    edit(chosen, apart, folder)
    files = [*chosen, *others, *images_below(folder)]
    places = {f"{path.parent.name}-{path.stem}": place for place, path in enumerate(chosen)}
    start = len(chosen) + len(others)
    origin = [*range(start), *(places[path.stem.split("-", 1)[1]] for path in files[start:])]
    return files, Truth.of_groups(np.array(origin, np.int64))


def faces(folder: Path) -> tuple[list[Path], Truth]:
    """The portraits and their crops, which have the same names."""
    portraits, crops = (images_below(folder / name) for name in ("Faces", "Faces_easy"))
    places = {path.name: number for number, path in enumerate(portraits)}
    pairs = [
        (places[path.name], number)
        for number, path in enumerate(crops, len(portraits)) if path.name in places
    ]  # fmt: skip
    return [*portraits, *crops], Truth(np.array(pairs, np.int64).reshape(-1, 2))


def listed(folder: Path, truth: Path) -> tuple[list[Path], Truth]:
    """A folder's images, and the true pairs that a CSV lists by their paths below it."""
    files = images_below(folder)
    places = {path.relative_to(folder).as_posix(): number for number, path in enumerate(files)}
    with truth.open(newline="", encoding="utf-8") as file:
        rows = [(row["first"], row["second"]) for row in csv.DictReader(file)]
    missing = sorted({name for row in rows for name in row} - set(places))
    if missing:
        raise SystemExit(f"{truth} names images that aren't below {folder}, such as {missing[0]}")
    pairs = np.array([sorted(places[name] for name in row) for row in rows], np.int64)
    return files, Truth(np.unique(pairs.reshape(-1, 2), axis=0))


def embedkit_steps(folder: Path) -> dict[str, Scored]:
    """Each step of embedkit's own search."""
    with EmbeddingStore.open(folder.with_suffix(".h5")) as store:
        rows, numbers = DedupInput(store), numbers_of(store)
        vectors = rows.rows.take(slice(None)).astype(np.float32)
        background = learn_background(rows.distinct, rows, None)
    whitened = background.whitening.apply(vectors)
    return {
        "cosine": all_cosines(vectors, numbers, COSINE_THRESHOLD, SURE),
        "whitened cosine": all_cosines(whitened, numbers),
        "candidates": candidates(rows, background.whitening, numbers),
        "votes": votes(folder, numbers),
        "embedkit, no pixels": search(folder, verify=False),
        "embedkit, verified": search(folder, verify=True),
    }


def all_cosines(
    rows: NDArray[np.float32], numbers: NDArray[np.int64], threshold: float | None = None,
    sure: float | None = None,
) -> Scored:  # fmt: skip
    cosines, cpu = cpu_timed(lambda: rows @ rows.T)
    first, second = np.triu_indices(len(rows), 1)
    scores = cosines[first, second].astype(np.float64)
    return Scored(in_order(numbers[first], numbers[second]), scores, threshold, sure, cpu=cpu)


def in_order(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(P, 2)`` pairs, the lower number first."""
    return np.sort(np.column_stack([first, second]), axis=1)


def candidates(rows: DedupInput, whitening: Whitening, numbers: NDArray[np.int64]) -> Scored:
    """The pairs that are compared on their pixels, scored by their order."""
    config = DedupConfig()

    def rank() -> RankedPairs:
        known = find_candidates(rows, None, (), config.max_hamming, (), config.max_pairs)
        return rank_candidates(rows, None, whitening, known, config)

    ranked, cpu = cpu_timed(rank)
    order = -np.arange(len(ranked.first), dtype=np.float64)
    return Scored(in_order(numbers[ranked.first], numbers[ranked.second]), order, cpu=cpu)


def votes(folder: Path, numbers: NDArray[np.int64]) -> Scored:
    """The pairs that keypoints vote for, scored by their order."""
    files = images_below(folder)

    def pixels(row: int) -> NDArray[np.uint8]:
        return np.asarray(Image.open(files[numbers[row]]).convert("RGB"))

    with PairComparer(pixels, usable_cores()) as comparer:
        (first, second), cpu = cpu_timed(
            lambda: voted_pairs(comparer.keypoints, range(len(files)), None)
        )
    order = -np.arange(len(first), dtype=np.float64)
    return Scored(in_order(numbers[first], numbers[second]), order, cpu=cpu)


def of_peer(peer: Peer, folder: Path) -> Scored | str:
    """What a peer finds, or why it can't be measured."""
    try:
        return peer(folder)
    except ImportError:
        return "not installed"
    except OSError:  # they can't be downloaded
        return "no weights"


def phash(folder: Path) -> Scored:
    from imagededup.methods import PHash

    method, files = PHash(verbose=False), images_below(folder)
    hashes, cpu = cpu_timed(
        lambda: np.array([int(method.encode_image(str(file)), 16) for file in files], np.uint64)
    )
    first, second = np.triu_indices(len(files), 1)
    distance = np.bitwise_count(hashes[first] ^ hashes[second])
    pairs = np.column_stack([first, second])
    return Scored(pairs, -distance.astype(np.float64), -PHASH_BITS, cpu=cpu)


def cnn(folder: Path) -> Scored:
    from imagededup.methods import CNN

    method, files = CNN(verbose=False), images_below(folder)
    rows, cpu = cpu_timed(
        lambda: np.concatenate([method.encode_image(str(file)).reshape(1, -1) for file in files])
    )
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = all_cosines(unit, np.arange(len(files)), CNN_COSINE, SURE)
    return Scored(found.pairs, found.scores, CNN_COSINE, SURE, cpu=cpu + found.cpu)


def fastdup(folder: Path) -> Scored:
    os.environ["SENTRY_OPT_OUT"] = "1"  # it would report what it does
    import fastdup as package

    with tempfile.TemporaryDirectory() as work, redirect_stdout(io.StringIO()):
        run = package.create(work_dir=work, input_dir=str(folder))
        _, cpu = cpu_timed(
            lambda: run.run(
                threshold=0.0, nearest_neighbors_k=NEAREST, overwrite=True, print_summary=False
            )
        )
        table = run.similarity()
    ends = (
        np.array([int(Path(name).stem) for name in table[column]], np.int64)
        for column in ("filename_from", "filename_to")
    )
    pairs, first = np.unique(in_order(*ends), axis=0, return_index=True)
    scores = table["distance"].to_numpy(np.float64)[first]  # it calls the cosine a distance
    return Scored(pairs, scores, FASTDUP_SIMILARITY, SURE, cpu=cpu)


def sift_magsac(files: Sequence[Path], cosine: Scored) -> Scored:
    """Of the nearest images of each image by cosine."""
    table = np.full((len(files), len(files)), -np.inf)
    for one, other in (cosine.pairs.T, cosine.pairs.T[::-1]):
        table[one, other] = cosine.scores
    near = np.argsort(-table, axis=1, kind="stable")[:, :NEAREST]
    near = near[:, : len(files) - 1]
    first = np.repeat(np.arange(len(files)), near.shape[1])
    pairs = np.unique(in_order(first, near.ravel()), axis=0)
    scores, cpu = cpu_timed(lambda: inliers(files, pairs.tolist()))
    return Scored(pairs, scores, LEAST_INLIERS, cpu=cpu)


def row(step: str, found: Scored | str, truth: Truth, images: int) -> list[str]:
    if isinstance(found, str):
        return [step, found, *[""] * (len(HEADER) - 2)]
    return [
        step,
        precision_and_recall(found, truth, -np.inf)[1],
        area(found, truth),
        recall_at(found, truth, PRECISION),
        *precision_and_recall(found, truth, found.threshold),
        *precision_and_recall(found, truth, found.sure),
        calibration_error(found, truth),
        f"{1000 * found.cpu / max(images, 1):.1f}",
    ]


if __name__ == "__main__":
    main()
