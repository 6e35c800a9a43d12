"""Are the copies of an image found, if it has many?

    python benchmarks/groups.py --images photos/ --distractors caltech20/

Makes 60 crops (80% to 97% of each side, anywhere) and 60 smaller or harder compressed files of each
of four photos, embeds them, and puts 2 to 60 of one photo into a store with all photos and
distractors; then those of all four; then nothing but the crops. Prints, at the default threshold,
how many pairs of copies are found and how many others: verified on the pixels, and without pixels,
with what is common learnt from a sample that leaves copies out, as embedkit does, and from a plain
one.
"""

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
from edits import crop, encode, scale
from PIL import Image
from support.machine import print_facts
from support.photos import image_files
from support.tables import print_table

import embedkit
from embedkit.dedup import find_pairs
from embedkit.dedup.pairs import Pairs
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.extraction.source_images import OriginalImages
from embedkit.store import EmbeddingStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stores import write_store

COPIES, COUNTS, PHOTOS = 60, (2, 10, 30, 60), 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--distractors", type=Path, required=True)
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = image_files(args.images)
        photos = every[:: len(every) // PHOTOS][:PHOTOS]
        make_copies(photos, folder)
        embedkit.extract(
            [args.images, args.distractors, folder / "copies"], folder / "all.h5",
            backbone="efficientnet_lite0",
        )  # fmt: skip
        rows = [
            [title, str(len(chosen)), *figures(folder, chosen, groups)]
            for title, chosen, groups in cases(folder, photos)
        ]
    print_table(
        ["store", "images", "pairs", "verified", "others", "no pixels", "others", "plain sample",
         "others"], rows,
    )  # fmt: skip


def make_copies(photos: list[Path], folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "copies").mkdir()
    for number, path in enumerate(photos):
        photo = Image.open(path).convert("RGB")
        for copy in range(COPIES):
            cut = crop(rng.uniform(0.8, 0.97))(photo, rng, photo)
            smaller = scale(rng.uniform(0.4, 1))(photo, rng, photo)
            quality = int(rng.integers(15, 96))
            name = f"{number}_{copy:02}.jpg"
            (folder / "copies" / f"crop_{name}").write_bytes(encode(cut))
            (folder / "copies" / f"file_{name}").write_bytes(encode(smaller, quality))


def cases(folder: Path, photos: list[Path]) -> list[tuple[str, list[int], list[str]]]:
    """Titles, rows, and for each row what is the same for copies of each other."""
    with EmbeddingStore.open(folder / "all.h5") as store:
        ids = list(store.ids)
    stems = [Path(name).stem for name in ids]
    made = np.array([Path(name).parent == folder / "copies" for name in ids])
    originals = {str(path): str(number) for number, path in enumerate(photos)}

    def case(
        title: str, wanted: set[str], *, alone: bool = False
    ) -> tuple[str, list[int], list[str]]:
        rows = [
            row for row, name in enumerate(stems)
            if (name in wanted if made[row] else not alone)
        ]  # fmt: skip
        groups = [
            stems[row].split("_")[1] if made[row] else originals.get(ids[row], ids[row])
            for row in rows
        ]
        return title, rows, groups

    def names(kind: str, photos: int, count: int) -> set[str]:
        return {f"{kind}_{p}_{copy:02}" for p in range(photos) for copy in range(count)}

    found = [
        case(f"{count} {words} of one photo", names(kind, 1, count))
        for kind, words in (("crop", "crops"), ("file", "smaller files"))
        for count in COUNTS
    ]
    frames = names("crop", PHOTOS, COPIES)
    found.append(case(f"{COPIES} crops of each of {PHOTOS}", frames))
    found.append(case("these alone", frames, alone=True))
    return found


def figures(folder: Path, chosen: list[int], groups: list[str]) -> list[str]:
    with EmbeddingStore.open(folder / "all.h5") as store:
        path = write_store(
            folder / "some.h5", store.embeddings[chosen], ids=[store.ids[row] for row in chosen],
            phash=store.images("phash")[chosen].tolist(),
            content_hash=[row.tobytes() for row in store.images("content_hash")[chosen]],
            backbone=store.meta.backbone, weights_fingerprint=store.meta.weights_fingerprint,
            pooling=dict(store.meta.pooling),
        )  # fmt: skip
    names = np.array(groups)
    _, counts = np.unique(names, return_counts=True)
    told = [str(int((counts * (counts - 1) // 2).sum()))]
    searching = import_module("embedkit.dedup.find_pairs")  # the function has the same name

    def learn(rows, side, _):
        return learn_background(rows, side, None)

    with patch.object(searching, "learn_background", learn):
        plain = find_pairs(path)
    for found in (verified(path), find_pairs(path), plain):
        right = int((names[found.first] == names[found.second]).sum())
        told += [str(right), str(len(found) - right)]
    path.unlink()
    return told


def verified(path: Path) -> Pairs:
    with EmbeddingStore.open(path) as store:
        ids = list(store.ids)
    with OriginalImages.by_ids(ids, [Path()]) as pixels:
        return find_pairs(path, verify=pixels)


if __name__ == "__main__":
    main()
