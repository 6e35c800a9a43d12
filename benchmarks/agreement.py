"""Do the pixels tell copies from other photographs of the same thing?

    python benchmarks/agreement.py --images photos/ --alike caltech20/Faces

Looks at every fifth photo with a copy of each kind that calibration makes, and at all pairs of up
to 30 pictures in --alike, which resemble each other and aren't copies: portraits of the same people
in different rooms. Prints, for each kind, how many pairs have a map, and quantiles of the keypoints
that agree on it and of how well the pixels agree after it.
"""

import argparse
import io
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image
from support.machine import print_facts
from support.tables import print_table

from embedkit.dedup.scoring.edits import EDITS, make_copy
from embedkit.dedup.verification.geometric import Evidence, compare
from embedkit.dedup.verification.sift import LocalFeatures, find_features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--alike", type=Path, required=True)
    args = parser.parse_args()
    print_facts()
    photos = [Image.open(path).convert("RGB") for path in images_of(args.images)[::5]]
    known = [find_features(np.asarray(photo)) for photo in photos]
    kinds = {kind: [] for kind in EDITS}
    for kind, found in kinds.items():
        for seed, (photo, features) in enumerate(zip(photos, known, strict=True)):
            found.append(compare(features, features_of(io.BytesIO(make_copy(photo, kind, seed)))))
    alike = [features_of(path) for path in images_of(args.alike)[:30]]
    kinds["no copies, but alike"] = [compare(a, b) for a, b in combinations(alike, 2)]
    quantiles = (0.05, 0.5, 0.95)
    header = ["pairs", "number", "with a map"]
    header += [f"{name}, {q:.0%}" for name in ("keypoints", "agreement") for q in quantiles]
    print_table(header, [row(kind, found, quantiles) for kind, found in kinds.items()])


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})


def features_of(file: Path | io.BytesIO) -> LocalFeatures:
    return find_features(np.asarray(Image.open(file).convert("RGB")))


def row(kind: str, found: list[Evidence], quantiles: tuple[float, ...]) -> list[str]:
    mapped = [one for one in found if one.inliers >= 6]
    keypoints = np.quantile([one.inliers for one in mapped], quantiles)
    agreement = np.quantile([one.correlation for one in mapped], quantiles)
    told = [f"{value:.0f}" for value in keypoints] + [f"{value:.2f}" for value in agreement]
    return [kind, str(len(found)), str(len(mapped)), *told]


if __name__ == "__main__":
    main()
