"""A whole clean-up of edited photographs: how many copies are found, what goes, and what stays?

    python benchmarks/cleanup.py --images photos/ caltech20/ --originals 290
    python benchmarks/cleanup.py --images photos/ caltech20/ --originals 40 --edits 1

Of all images so many, evenly spread, are edited in 25 ways (benchmarks/edits.py) or in fewer, drawn
for each; twenty others are pasted into. All of it but these is one store. The copies are found on
their pixels, and a plan is made as the command line does by default. Printed are how well the pairs
are found; how often the plan keeps an original; how many images it removes, and how many of these
for an image that was made of another file; which files are taken for copies of each other, to be
looked at; and what both steps take of one core, in all threads of this process, and on the clock.
Data sets have copies of their own: ``--known`` is a CSV with the columns ``first`` and ``second``,
names of files that somebody found to be copies. They count as one photograph.
"""

import argparse
import csv
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from lookalikes import HEADER, row
from numpy.typing import NDArray
from PIL import Image
from support.machine import print_facts
from support.numbered import embed, images_below, search
from support.rankings import Truth
from support.tables import print_table
from support.timing import cpu_timed

from embedkit import find_duplicates
from embedkit.dedup import make_plan
from embedkit.dedup.groups.grouping import nodes_of
from embedkit.dedup.results import Duplicates

PASTED = 20


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--originals", type=int, default=40, help="photographs that are edited")
    parser.add_argument("--edits", type=int, default=len(EDITS), help="of each original")
    parser.add_argument("--known", type=Path, help="a CSV of copies among the images")
    args = parser.parse_args(arguments)
    print_facts()
    files = [file for folder in args.images for file in images_below(folder)]
    chosen = np.linspace(0, len(files) - 1, args.originals).astype(int)
    rest = [file for at, file in enumerate(files) if at not in set(chosen.tolist())]
    originals, pasted, others = [files[at] for at in chosen], rest[:PASTED], rest[PASTED:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name)) / "images"
        origin = write_images(originals, pasted, others, args.edits, folder)
        names = [f"{file.parent.name}/{file.name}" for file in (*originals, *others)]
        if args.known:
            merge_known(args.known, names, origin)
        truth = Truth.of_groups(origin)
        print(f"{len(origin):,} images, {len(truth):,} true pairs\n")
        embed(folder, "efficientnet_lite0")
        print_table(HEADER, [row("verified", search(folder, verify=True), truth, len(origin))])
        report_plan(folder, origin, names, len(originals))


def write_images(
    originals: Sequence[Path], pasted: Sequence[Path], others: Sequence[Path], edits: int,
    folder: Path,
) -> NDArray[np.int64]:  # fmt: skip
    """Writes the store's images, each named by its number; the photograph each was made of."""
    folder.mkdir()
    files = [*originals, *others]
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:07d}{file.suffix.lower()}")
    origin = list(range(len(files)))
    beside = [Image.open(file).convert("RGB") for file in pasted]
    for number, file in enumerate(originals):
        rng = np.random.default_rng(number)
        image = Image.open(file).convert("RGB")
        kinds = rng.permutation(list(EDITS))[:edits] if edits < len(EDITS) else list(EDITS)
        for kind in kinds:
            edited = EDITS[kind](image, rng, beside[int(rng.integers(len(beside)))])
            (folder / f"{len(origin):07d}.jpg").write_bytes(encode(edited))
            origin.append(number)
    return np.array(origin, np.int64)


def report_plan(
    folder: Path, origin: NDArray[np.int64], names: Sequence[str], originals: int
) -> None:
    found = find_duplicates(folder.with_suffix(".h5"), verify=True)
    began = time.perf_counter()
    rows, cpu = cpu_timed(lambda: make_plan(found))
    seconds = time.perf_counter() - began
    removed = [one for one in rows if one.action == "remove"]
    wrong = sum(origin[number_of(one.id)] != origin[number_of(one.copy_of)] for one in removed)
    kept = {number_of(one.id) for one in rows if one.action == "keep"}
    grouped = {int(origin[number_of(one.id)]) for one in rows} & set(range(originals))
    first = {group: number_of(one.id) for one in reversed(rows) for group in [one.group]}
    leads = sum(number < originals for number in first.values())
    print(
        f"\nplan: {len(rows):,} images in {len(first):,} groups, {len(removed):,} removed, "
        f"{wrong} of them for an image that was made of another file\n"
        f"the original is kept of {len(grouped & kept)} of {len(grouped)} photographs, and comes "
        f"first in {leads} groups\n"
        f"{cpu:.0f} s of one core, {seconds:.0f} s on the clock",
        *joined(found, origin, names),
        sep="\n",
    )


def joined(found: Duplicates, origin: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """The photographs whose images are found to be copies of each other."""
    made_of = {
        tuple(sorted(int(origin[number_of(found.images.ids[image])]) for image in pair))
        for pair in nodes_of(found.pairs)[1].tolist()
    }
    return [f"{names[one]},{names[other]}" for one, other in sorted(made_of) if one != other]


def merge_known(known: Path, names: Sequence[str], origin: NDArray[np.int64]) -> None:
    """Lets copies among the files count as one photograph."""
    places = {name: place for place, name in enumerate(names)}
    with known.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            ends = [places.get(row[side], -1) for side in ("first", "second")]
            if min(ends) >= 0:  # one of the pasted pictures isn't there
                one, other = sorted(int(origin[end]) for end in ends)
                origin[origin == other] = one


def number_of(path: str) -> int:
    return int(Path(path).stem)


if __name__ == "__main__":
    main()
