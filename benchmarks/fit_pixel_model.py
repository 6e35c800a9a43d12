"""Fits the model that turns the evidence of pixels into odds, and says how well it tells.

    python benchmarks/fit_pixel_model.py --faces caltech101/ --images photos/ caltech20/

``--faces`` is a folder with ``Faces`` and ``Faces_easy`` of Caltech-101 (a portrait and its crop
are copies, all else is another photograph); ``--images`` are photographs no two of which are
copies, except for those that ``--truth``, a CSV of file names, pairs. The pairs:

    crops           each portrait and its crop: copies
    portraits       each portrait and the three other photographs whose embeddings are nearest
    neighbours      each photograph and the two whose embeddings are nearest
    edits           80 photographs and each of the edits of ``edits.py``, 40 and those that
                    calibration draws: copies
    two edits       pairs of such edits of one photograph: copies
    edits of neighbours   and pairs of an edit with a neighbour of the photograph

Pairs that aren't copies but agree in more than 0.4 of their windows count three times. Printed are
the model, as ``embedkit/dedup/scoring/pixel_model.py`` has it, and what a model that was fitted on
four fifths of the photographs says of the last fifth: average precision, recall at precision 0.99,
and wrong pairs above some scores.
"""

import argparse
import csv
import io
import json
import tempfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from support.machine import print_facts
from support.numbered import embed, images_below, link, numbers_of

from embedkit import EmbeddingStore
from embedkit.dedup.scoring.edits import EDITS as DRAWN
from embedkit.dedup.scoring.edits import make_copy
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.pixel_model import pixel_features
from embedkit.dedup.verification.batch import verify_pairs
from embedkit.metrics import micro_ap, recall_at_precision
from embedkit.utils.threads import usable_cores

EDITED, DRAWN_OF, APART = 80, 40, 20
PAIRS_OF_EDITS = 4
HARD, TIMES = 0.4, 3.0
FOLDS = 5


@dataclass(frozen=True)
class Labelled:
    """A pair of images (a file, or a file and an edit), whether they are copies, and its kind."""

    first: tuple[Path, str]
    second: tuple[Path, str]
    is_copy: bool
    kind: str


class Pictures:
    """Gives the pixels of images and of edits of them."""

    def __init__(self, others: list[Path]) -> None:
        self._others = [Image.open(path).convert("RGB") for path in others]

    def __call__(self, key: tuple[Path, str]) -> NDArray[np.uint8]:
        path, edit = key
        image = Image.open(path).convert("RGB")
        if edit:
            image = Image.open(io.BytesIO(self._edited(image, path, edit))).convert("RGB")
        return np.asarray(image)

    def _edited(self, image: Image.Image, path: Path, edit: str) -> bytes:
        seed = zlib.crc32(f"{path.name} {edit}".encode())
        if edit.startswith("drawn "):
            return make_copy(image, edit.removeprefix("drawn "), seed)
        rng = np.random.default_rng(seed)
        return encode(EDITS[edit](image, rng, self._others[rng.integers(len(self._others))]))


def nearest(files: list[Path], count: int, backbone: str) -> NDArray[np.int64]:
    """The nearest other files of each, ``(N, count)``."""
    with tempfile.TemporaryDirectory() as name:
        store = embed(link(files, Path(name, "images")), backbone)
        with EmbeddingStore.open(store) as opened:
            rows = np.empty((len(files), opened.meta.feature_dim), np.float32)
            rows[numbers_of(opened)] = opened.to_numpy(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2)
    return np.argsort(-similar, axis=1, kind="stable")[:, :count]


def portraits(folder: Path, backbone: str) -> list[Labelled]:
    """Crops and look-alikes among portraits."""
    files = [path for part in ("Faces", "Faces_easy") for path in images_below(folder / part)]
    pairs = {}
    for number, near in enumerate(nearest(files, 4, backbone)):
        others = [other for other in near if files[other].name != files[number].name][:3]
        for other in others:
            first, second = sorted((files[number], files[other]))
            pairs[first, second] = Labelled((first, ""), (second, ""), False, "portraits")
    for path in files:
        crop = path.parent.with_name("Faces_easy") / path.name
        if path.parent.name == "Faces" and crop in files:
            pairs[path, crop] = Labelled((path, ""), (crop, ""), True, "crops")
    return list(pairs.values())


def photographs(files: list[Path], same: set[frozenset[str]], backbone: str) -> list[Labelled]:
    """Neighbours, edits, and edits of neighbours."""
    rng = np.random.default_rng(0)
    near, pairs = nearest(files, 2, backbone), {}
    for number, others in enumerate(near):
        for other in others:
            first, second = sorted((files[number], files[other]))
            is_copy = frozenset((first.name, second.name)) in same
            pairs[first, second] = Labelled((first, ""), (second, ""), is_copy, "neighbours")
    out = list(pairs.values())
    chosen = rng.permutation(len(files))[:EDITED]
    for place, number in enumerate(chosen):
        path, edits = files[number], list(EDITS)
        if place < DRAWN_OF:
            edits += [f"drawn {kind}" for kind in DRAWN]
        out += [Labelled((path, ""), (path, edit), True, edit) for edit in edits]
        for turn in range(PAIRS_OF_EDITS):
            one, two = rng.choice(len(EDITS), 2, replace=False)
            first, second = (path, list(EDITS)[one]), (path, list(EDITS)[two])
            out.append(Labelled(first, second, True, "two edits"))
            other = files[near[number, turn % 2]], ""
            is_copy = frozenset((path.name, other[0].name)) in same
            out.append(Labelled(first, other, is_copy, "edits of neighbours"))
    return out


def print_quality(scores: NDArray[np.float64], pairs: list[Labelled]) -> None:
    """How well scores of pairs that the model hasn't seen tell them apart."""
    is_copy = np.array([one.is_copy for one in pairs])
    recall, _ = recall_at_precision(scores, is_copy, 0.99, positives=int(is_copy.sum()))
    area = micro_ap(scores, is_copy, positives=int(is_copy.sum()))
    print(f"average precision {area:.4f}, recall at precision 0.99: {recall:.3f}")
    for least in (0.5, 0.8, 0.9, 0.99):
        found = scores >= least
        print(
            f"scores >= {least}: {int((found & ~is_copy).sum())} of {int((~is_copy).sum()):,} "
            f"wrong pairs, {(found & is_copy).sum() / is_copy.sum():.3f} of the copies"
        )
    missed = Counter(pairs[place].kind for place in np.flatnonzero(is_copy & (scores < 0.8)))
    print(
        "copies below 0.8:", ", ".join(f"{kind} {count}" for kind, count in missed.most_common(8))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args()
    print_facts()
    same = set()
    if args.truth is not None:
        with args.truth.open(newline="") as file:
            same = {frozenset((row["first"], row["second"])) for row in csv.DictReader(file)}
    files = [path for folder in args.images for path in images_below(folder)]
    rng = np.random.default_rng(1)
    apart = set(rng.choice(len(files), APART, replace=False).tolist())
    others = [files[place] for place in sorted(apart)]
    files = [path for place, path in enumerate(files) if place not in apart]
    pairs = portraits(args.faces, args.backbone) + photographs(files, same, args.backbone)
    evidence = verify_pairs(
        [(one.first, one.second) for one in pairs], Pictures(others), threads=usable_cores()
    )
    pairs = [one for one, found in zip(pairs, evidence, strict=True) if found is not None]
    read = [found for found in evidence if found is not None]
    columns = pixel_features(read)
    table = np.stack(list(columns.values()), 1)
    mean, scale = table.mean(0), table.std(0)
    table = (table - mean) / scale
    is_copy = np.array([one.is_copy for one in pairs])
    hard = np.array([found.agreement.agreeing > HARD for found in read])
    weights = np.where(~is_copy & hard, TIMES, 1.0)
    groups = np.array([zlib.crc32(one.first[0].name.encode()) for one in pairs])
    model = LogisticRegression(C=100, max_iter=5000)
    unseen = cross_val_predict(
        model, table, is_copy, groups=groups, cv=GroupKFold(FOLDS), method="decision_function",
        params={"sample_weight": weights},
    )  # fmt: skip
    print(f"{len(pairs):,} pairs, {is_copy.sum():,} of them copies")
    print_quality(probability(unseen), pairs)
    model.fit(table, is_copy, sample_weight=weights)
    fitted = {
        "features": list(columns), "mean": mean.round(4).tolist(), "scale": scale.round(4).tolist(),
        "weights": model.coef_[0].round(4).tolist(), "bias": round(float(model.intercept_[0]), 4),
    }  # fmt: skip
    print(json.dumps(fitted))


if __name__ == "__main__":
    main()
