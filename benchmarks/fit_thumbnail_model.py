"""Fits the model of embeddings and thumbnails together, and says how well it tells copies.

    python benchmarks/fit_thumbnail_model.py --faces caltech101/ --images photos/ caltech20/

``--faces`` is a folder with ``Faces`` and ``Faces_easy`` of Caltech-101: portraits and a crop of
each, of which only a portrait and its crop are copies. ``--images`` are photographs: 40 of them are
edited in each of the ways of ``edits.py``, the others are there to be told from these; no two of
the others should be copies (pairs of them whose thumbnails agree are left out, and counted). Of
both, all candidates of a search without pixels are scored; a true pair that is no candidate counts
as missed. Both are looked at as they are, and as pictures of 32 x 32 pixels, as small data sets
have them. Portraits weigh ``LOOKALIKES`` times as much: look-alikes are what precision is lost on.
Printed are, by the model that was fitted on four
fifths of the images for the last fifth, with the share of copies that the set suggests: micro-AP,
recall at precision 0.99, and precision and recall at some scores, beside the embeddings alone; the
time of the thumbnails; and the model, as ``embedkit/dedup/scoring/thumbnail_model.py`` has it.
"""

import argparse
import json
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from lookalikes import faces
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from support.machine import print_facts
from support.numbered import embed, images_below, link, numbers_of
from support.rankings import Truth
from support.tables import print_table
from support.timing import cpu_timed

from embedkit import EmbeddingStore
from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.collect import find_candidates
from embedkit.dedup.candidates.joins import ExactJoin, WhitenedJoin
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring.calibration import calibration_for
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.logistic import probability
from embedkit.dedup.scoring.overlay import Distances
from embedkit.dedup.scoring.pixel_model import prior_of
from embedkit.dedup.scoring.scorer import Scorer
from embedkit.dedup.scoring.thumbnail_model import thumbnail_distances, thumbnail_features
from embedkit.metrics import micro_ap, recall_at_precision

EDITED, APART, FOLDS, SMALL = 40, 10, 5, 32
LOOKALIKES = 4
SAME = 0.01  # a distance of thumbnails: two of the other photographs are one
SCORES = (0.9, 0.95, 0.98, 0.99, 0.995)


@dataclass(frozen=True)
class Candidates:
    """The candidate pairs of a set of images.

    Attributes:
        is_copy: ``(P,)`` bool.
        group: ``(P,)`` the original of the first image.
        odds: ``(P,)`` log-odds by the embeddings.
        alone: ``(P,)`` the same with the prior that is assumed without thumbnails.
        distances: Of the thumbnails.
        copies: How many pairs are copies, candidates or not.
    """

    is_copy: NDArray[np.bool_]
    group: NDArray[np.int64]
    odds: NDArray[np.float64]
    alone: NDArray[np.float64]
    distances: Distances
    copies: int

    @property
    def features(self) -> NDArray[np.float64]:
        """``(P, 8)``."""
        return np.stack(list(thumbnail_features(self.odds, self.distances).values()), 1)


@dataclass(frozen=True)
class Images:
    """A folder of numbered images.

    Attributes:
        folder: Where they are.
        originals: ``(N,)`` the number of each one's original.
        truth: The pairs that are copies.
        are_lookalikes: Whether its photographs are of few things; of others, pairs whose thumbnails
            agree may be copies that nobody knows of.
    """

    folder: Path
    originals: NDArray[np.int64]
    truth: Truth
    are_lookalikes: bool

    def small(self) -> "Images":
        """The same as pictures of 32 x 32 pixels."""
        folder = self.folder.with_name(f"{self.folder.name} of {SMALL} pixels")
        folder.mkdir()
        for path in self.folder.iterdir():
            image = Image.open(path).convert("RGB").resize((SMALL, SMALL), Resampling.LANCZOS)
            image.save(folder / f"{path.stem}.png")
        return replace(self, folder=folder)


def candidates(images: Images, backbone: str) -> Candidates:
    """The candidates of a search without pixels."""
    folder, truth = images.folder, images.truth
    with EmbeddingStore.open(embed(folder, backbone)) as store:
        left, calibration, config = DedupInput(store), calibration_for(store), DedupConfig()
        background = learn_background(left.distinct, left, calibration)
        least = candidate_cosine_threshold(
            left, None, background, calibration, config.candidates_per_image,
            max_pairs=config.max_pairs,
        )  # fmt: skip
        joins = [
            ExactJoin(least, config.max_pairs),
            WhitenedJoin.chosen(
                left, None, background, calibration, config.candidates_per_image, config.max_pairs
            ),
        ]
        found = find_candidates(left, None, joins, config.max_hamming)
        columns = Scorer(left, None, calibration, background, {}).columns(found)
        odds = calibration.embedding_model.log_odds(columns)
        turns = np.zeros(len(found), np.int64)
        distances, cpu = cpu_timed(
            lambda: thumbnail_distances(left, None, found.first, found.second, odds, turns)
        )
        print(
            f"{folder.name}: {len(left):,} images, {len(truth):,} copies, {len(found):,} "
            f"candidates; thumbnails take {1000 * cpu / len(left):.1f} ms of one core an image"
        )
        numbers = numbers_of(store)
        pairs = np.sort(np.stack([numbers[found.first], numbers[found.second]], 1), axis=1)
        alone = odds + calibration.prior(len(left))
    is_copy, originals = truth.has(pairs), images.originals[pairs[:, 0]]
    same = ~is_copy & (distances.levels < SAME) & (not images.are_lookalikes)
    print(f"{same.sum()} pairs of other photographs agree, and are left out")
    return Candidates(
        is_copy[~same], originals[~same], odds[~same], alone[~same], distances.at(~same), len(truth)
    )


def portraits(folder: Path, place: Path) -> Images:
    """Portraits and their crops."""
    files, truth = faces(folder)
    names = np.array([zlib.crc32(path.name.encode()) for path in files], np.int64)
    return Images(link(files, place), names, truth, are_lookalikes=True)


def edits(folders: list[Path], place: Path) -> Images:
    """Photographs, some of them edited."""
    files = [path for folder in folders for path in images_below(folder)]
    files = [files[number] for number in np.random.default_rng(0).permutation(len(files))]
    apart = [Image.open(path).convert("RGB") for path in files[-APART:]]
    files = files[:-APART]
    link(files, place)
    originals = list(range(len(files)))
    for number, path in enumerate(files[:EDITED]):
        image = Image.open(path).convert("RGB")
        for name, edit in EDITS.items():
            rng = np.random.default_rng(zlib.crc32(f"{path.name} {name}".encode()))
            data = encode(edit(image, rng, apart[rng.integers(len(apart))]))
            (place / f"{len(originals):07d}.jpg").write_bytes(data)
            originals.append(number)
    numbers = np.array(originals, np.int64)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    pairs = [one[np.stack(np.triu_indices(len(one), 1), 1)] for one in groups]
    return Images(place, numbers, Truth(np.sort(np.concatenate(pairs), 1)), are_lookalikes=False)


def row(name: str, scores: NDArray[np.float64], one: Candidates) -> tuple[str, ...]:
    """What scores tell of a set."""
    recall, _ = recall_at_precision(scores, one.is_copy, 0.99, positives=one.copies)
    at = []
    for least in SCORES:
        kept = scores >= least
        precision = one.is_copy[kept].mean() if kept.any() else np.nan
        at.append(f"{precision:.3f} / {one.is_copy[kept].sum() / one.copies:.3f}")
    area = micro_ap(scores, one.is_copy, positives=one.copies)
    return name, f"{area:.3f}", f"{recall:.3f}", *at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        images = [
            portraits(args.faces, Path(name, "portraits")),
            edits(args.images, Path(name, "edits")),
        ]
        images += [one.small() for one in images]
        sets = {one.folder.name: candidates(one, args.backbone) for one in images}
    shares = [LOOKALIKES if one.are_lookalikes else 1 for one in images]
    table = np.concatenate([one.features for one in sets.values()])
    is_copy = np.concatenate([one.is_copy for one in sets.values()])
    groups = np.concatenate([one.group for one in sets.values()])
    sizes = [len(one.odds) for one in sets.values()]
    weights = np.repeat(np.divide(shares, sizes), sizes)
    weights *= len(weights) / weights.sum()
    model = LogisticRegression(C=10, max_iter=5000)
    unseen = cross_val_predict(
        model, table, is_copy, groups=groups, cv=GroupKFold(FOLDS), method="decision_function",
        params={"sample_weight": weights},
    )  # fmt: skip
    share = float(weights[is_copy].sum() / weights.sum())
    prior = float(np.log(share / (1 - share)))
    rows, start = [], 0
    for name, one in sets.items():
        found = unseen[start : start + len(one.odds)] - prior
        rows.append(row(f"{name}, embeddings", probability(one.alone), one))
        rows.append(row(f"{name}, with thumbnails", probability(found + prior_of(found, -10)), one))
        start += len(one.odds)
    header = (
        "pairs",
        "micro-AP",
        "recall at precision .99",
        *(f"score >= {score}: precision / recall" for score in SCORES),
    )
    print_table(header, rows)
    model.fit(table, is_copy, sample_weight=weights)
    fitted = {"weights": model.coef_[0].round(3).tolist(), "bias": round(model.intercept_[0], 3)}
    print(json.dumps({**fitted, "prior": round(prior, 3)}))


if __name__ == "__main__":
    main()
