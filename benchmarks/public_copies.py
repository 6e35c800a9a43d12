"""How well are the copies of public sets found?

    python benchmarks/public_copies.py --copydays copydays/
    python benchmarks/public_copies.py --disc21 disc21/
    python benchmarks/public_copies.py --cifar cifar10/ --duplicates duplicates_cifar10.csv

All queries are compared with all references. Of Copydays and DISC21 it prints, without pixels and
verified, micro-AP, the recall at precisions of .9 and .99, and precision and recall at the default
threshold, over all queries and of each part.

INRIA Copydays: ``original/``, and any of ``jpegqual/*``, ``crops/*`` and ``strong/``. Files whose
names begin with the same four digits show one photograph: 200000.jpg is the original of 200001.jpg.

DISC21, all or a part of it: images anywhere below the folder, queries named ``Q...``, references
``R...``, and one CSV ``query_id,reference_id``. Pairs of images that aren't there are left out.

CIFAR-10 or CIFAR-100 as PNG files in ``train/`` and ``test/``, also in folders by class, each named
by its number in the original order (``train/49007.png``), with ``duplicates_cifar*.csv`` of ciFAIR
(TestID,TrainID,Distance,Judgment): judgments 0 and 1 are copies, 2 is only very similar. It lists a
test image once, and by far not all copies, so it prints how many of the listed pairs are among the
pairs that the default threshold gives; ``--sheet PICTURE.png`` draws 100 of the other pairs, drawn
by lot, to be judged by eye.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support.machine import print_facts
from support.numbered import embed, images_below, link, search
from support.rankings import Scored, Truth, area, is_among, precision_and_recall, recall_at
from support.tables import print_table

HEADER = (
    "queries", "images", "copies", "micro-AP", "recall at precision .9", ".99",
    "default: precision", "recall", "ms per image",
)  # fmt: skip
LISTED = (
    "test with train", "pairs", "listed copies among them", "listed as similar",
    "test images in a pair", "ms per image",
)  # fmt: skip
ON_SHEET, ACROSS, PICTURE = 100, 10, 72  # pairs, how many in a row; pixels


@dataclass(frozen=True)
class CopySet:
    """Queries, some of which are copies of references.

    Attributes:
        queries: Files.
        references: Files.
        truth: ``(T, 2)`` numbers of queries and of their references.
        parts: The part of the set that each query is of.
        similar: ``(U, 2)`` pairs that are listed as similar, not as copies.
    """

    queries: list[Path]
    references: list[Path]
    truth: Truth
    parts: NDArray[np.str_]
    similar: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        queries: list[Path],
        references: list[Path],
        pairs: Sequence[tuple[int, int]],
        parts: Sequence[str] = (),
        similar: Sequence[tuple[int, int]] = (),
    ) -> "CopySet":
        return cls(
            queries, references, Truth(table(pairs)),
            np.array(parts or ["all"] * len(queries), np.str_), table(similar),
        )  # fmt: skip


def table(pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(sorted(set(pairs)), np.int64).reshape(-1, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.copydays:
        found = copydays(args.copydays)
    elif args.disc21:
        found = disc21(args.disc21)
    else:
        found = cifar(args.cifar, args.duplicates)
    if not found.queries or not found.references:
        raise SystemExit("no queries or no references: is the folder laid out as --help says?")
    print_facts()
    print(f"{len(found.references):,} references\n")
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        queries = link(found.queries, Path(name) / "queries")
        references = link(found.references, Path(name) / "references")
        for folder in (queries, references):
            embed(folder, args.backbone)
        rows = []
        for step, verify in (("without pixels", False), ("verified", True)):
            scored = search(queries, references, verify=verify)
            rows += listed_rows(step, scored, found) if args.cifar else rows_of(step, scored, found)
            if args.sheet:
                draw_sheet(scored, found, args.sheet.with_stem(f"{args.sheet.stem} {step}"))
    print_table(LISTED if args.cifar else HEADER, rows)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--copydays", type=Path, metavar="DIR", help="original/, strong/ and so on")
    which.add_argument("--disc21", type=Path, metavar="DIR", help="Q*.jpg, R*.jpg and a CSV")
    which.add_argument("--cifar", type=Path, metavar="DIR", help="train/ and test/ of PNG files")
    parser.add_argument("--duplicates", type=Path, metavar="CSV", help="ciFAIR's, for --cifar")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="pairs to judge, with --cifar")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    args = parser.parse_args(arguments)
    if (args.cifar is None) != (args.duplicates is None):
        parser.error("--cifar and --duplicates go together")
    if args.sheet and not args.cifar:
        parser.error("--sheet goes with --cifar")
    return args


def copydays(folder: Path) -> CopySet:
    originals = images_below(folder / "original")
    queries = [path for path in images_below(folder) if path not in set(originals)]
    places = {path.stem[:4]: number for number, path in enumerate(originals)}
    pairs = [
        (number, places[path.stem[:4]])
        for number, path in enumerate(queries) if path.stem[:4] in places
    ]  # fmt: skip
    parts = [path.relative_to(folder).parts[0] for path in queries]
    return CopySet.of(queries, originals, pairs, parts)


def disc21(folder: Path) -> CopySet:
    files = images_below(folder)
    queries, references = (
        [path for path in files if path.stem.startswith(letter)] for letter in ("Q", "R")
    )
    truths = sorted(folder.rglob("*.csv"))
    if len(truths) != 1:
        raise SystemExit(f"{folder} must hold one CSV of query_id,reference_id, not {len(truths)}")
    asked, known = numbered(queries), numbered(references)
    with truths[0].open(newline="", encoding="utf-8") as file:
        listed = [(row[0], row[1]) for row in csv.reader(file) if row[1:] and row[1][:1] == "R"]
    pairs = [(asked[a], known[b]) for a, b in listed if a in asked and b in known]
    print(f"{len(pairs):,} of {len(listed):,} listed pairs have both images here")
    return CopySet.of(queries, references, pairs)


def numbered(files: Sequence[Path]) -> dict[str, int]:
    return {path.stem: number for number, path in enumerate(files)}


def cifar(folder: Path, duplicates: Path) -> CopySet:
    queries, references = (images_below(folder / name) for name in ("test", "train"))
    asked, known = ({int(key): n for key, n in numbered(f).items()} for f in (queries, references))
    pairs, similar = list[tuple[int, int]](), list[tuple[int, int]]()
    with duplicates.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            query, reference = asked.get(int(row["TestID"])), known.get(int(row["TrainID"]))
            if query is not None and reference is not None:
                (pairs if int(row["Judgment"]) < 2 else similar).append((query, reference))
    return CopySet.of(queries, references, pairs, similar=similar)


def rows_of(step: str, found: Scored, copies: CopySet) -> list[list[str]]:
    """A row for all queries, and one for each part where there are several."""
    names = sorted(set(copies.parts.tolist()))
    images = len(copies.queries) + len(copies.references)
    figures = row(step, found, copies.truth, len(copies.queries))
    rows = [[*figures, f"{1000 * found.cpu / images:.1f}"]]
    for name in names if len(names) > 1 else ():
        mine = copies.parts == name
        truth = Truth(copies.truth.pairs[mine[copies.truth.pairs[:, 0]]])
        kept = found.where(mine[found.pairs[:, 0]])
        rows.append([*row(f"{step}: {name}", kept, truth, int(mine.sum())), ""])
    return rows


def by_default(found: Scored) -> NDArray[np.int64]:
    """The pairs that the default threshold gives."""
    return found.pairs[found.scores >= (found.threshold or 0)]


def listed_rows(step: str, found: Scored, copies: CopySet) -> list[list[str]]:
    """The row of a set of which not all copies are listed."""
    pairs, images = by_default(found), len(copies.queries) + len(copies.references)
    listed = [copies.truth.pairs, copies.similar]
    among = [f"{is_among(one, pairs).sum():,} of {len(one):,}" for one in listed]
    asked = len(np.unique(pairs[:, 0]))
    return [[step, f"{len(pairs):,}", *among, f"{asked:,}", f"{1000 * found.cpu / images:.1f}"]]


def draw_sheet(found: Scored, copies: CopySet, path: Path) -> None:
    """Draws some of the pairs that aren't listed."""
    pairs = by_default(found)
    pairs = pairs[~is_among(pairs, np.concatenate([copies.truth.pairs, copies.similar]))]
    chosen = np.random.default_rng(0).permutation(pairs)[:ON_SHEET].tolist()
    sheet = Image.new("RGB", (ACROSS * (2 * PICTURE + 8), -(-ON_SHEET // ACROSS) * (PICTURE + 8)))
    for number, pair in enumerate(chosen):
        down, across = divmod(number, ACROSS)
        for side, file in enumerate((copies.queries[pair[0]], copies.references[pair[1]])):
            picture = Image.open(file).convert("RGB").resize((PICTURE, PICTURE))
            place = across * (2 * PICTURE + 8) + side * PICTURE, down * (PICTURE + 8)
            sheet.paste(picture, place)
    sheet.save(path)


def row(name: str, found: Scored, truth: Truth, count: int) -> list[str]:
    return [
        name, f"{count:,}", f"{len(truth):,}", area(found, truth), recall_at(found, truth, 0.9),
        recall_at(found, truth, 0.99), *precision_and_recall(found, truth, found.threshold),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
