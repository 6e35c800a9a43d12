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
pairs that the default threshold gives; ``--whole`` also looks for all copies in one store of both;
``--sheet PICTURE.png`` draws 100 of the other pairs by lot, to be judged by eye, at most five of
images that pairs connect.
"""

import argparse
import csv
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from support.machine import print_facts
from support.numbered import embed, images_below, link, search
from support.rankings import Scored, Truth, area, is_among, precision_and_recall, recall_at
from support.tables import print_table

HEADER = (
    "queries", "images", "copies", "micro-AP", "recall at precision .9", ".99",
    "default: precision", "recall", "ms per image",
)  # fmt: skip
LISTED = (
    "", "pairs", "within train", "listed copies among them", "listed as similar",
    "test images in a pair", "ms per image",
)  # fmt: skip
STEPS = {"without pixels": False, "verified": True}
ON_SHEET, OF_ONE_GROUP, ACROSS, PICTURE = 100, 5, 10, 72  # pairs, how many in a row; pixels


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

    @property
    def files(self) -> list[Path]:
        """The queries, then the references."""
        return [*self.queries, *self.references]

    @property
    def listed(self) -> NDArray[np.int64]:
        """``(T, 2)``: ``truth`` by numbers of ``files``."""
        return self.truth.pairs + np.array([0, len(self.queries)])

    @property
    def listed_as_similar(self) -> NDArray[np.int64]:
        """``(U, 2)``: ``similar`` by numbers of ``files``."""
        return self.similar + np.array([0, len(self.queries)])

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
        if args.cifar:
            sets = {"test with train": (queries, references)}
            if args.whole:
                sets["all"] = (link(found.files, Path(name) / "all"),)
                embed(*sets["all"], args.backbone)
            print_table(LISTED, listed_rows(sets, found, args.sheet))
        else:
            print_table(HEADER, ranked_rows(queries, references, found))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--copydays", type=Path, metavar="DIR", help="original/, strong/ and so on")
    which.add_argument("--disc21", type=Path, metavar="DIR", help="Q*.jpg, R*.jpg and a CSV")
    which.add_argument("--cifar", type=Path, metavar="DIR", help="train/ and test/ of PNG files")
    parser.add_argument("--duplicates", type=Path, metavar="CSV", help="ciFAIR's, for --cifar")
    parser.add_argument("--whole", action="store_true", help="all in one store, too, with --cifar")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="pairs to judge, with --cifar")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    args = parser.parse_args(arguments)
    if (args.cifar is None) != (args.duplicates is None):
        parser.error("--cifar and --duplicates go together")
    if (args.sheet or args.whole) and not args.cifar:
        parser.error("--sheet and --whole go with --cifar")
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


def ranked_rows(queries: Path, references: Path, copies: CopySet) -> list[list[str]]:
    """How all pairs rank, in each step."""
    return [
        row
        for step, verify in STEPS.items()
        for row in rows_of(step, search(queries, references, verify=verify), copies)
    ]


def listed_rows(
    sets: Mapping[str, tuple[Path, ...]], copies: CopySet, sheet: Path | None
) -> list[list[str]]:
    """What the default threshold gives, in each step: in one store, or between two."""
    rows = []
    for where, folders in sets.items():
        for step, verify in STEPS.items():
            scored = search(*folders, verify=verify)
            pairs = by_default(scored, len(copies.queries) if len(folders) > 1 else 0)
            rows.append([f"{where}, {step}", *counts(pairs, scored.cpu, copies)])
            if sheet:
                draw_sheet(pairs, copies, sheet.with_stem(f"{sheet.stem} {where} {step}"))
    return rows


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


def by_default(found: Scored, offset: int) -> NDArray[np.int64]:
    """The pairs that the default threshold gives, ``(P, 2)`` numbers of ``CopySet.files``.

    ``offset`` is added to the second number of each.
    """
    pairs = found.pairs[found.scores >= (found.threshold or 0)] + np.array([0, offset])
    return np.sort(pairs, axis=1)


def counts(pairs: NDArray[np.int64], cpu: float, copies: CopySet) -> list[str]:
    """The figures of a set of which not all copies are listed."""
    tests = len(copies.queries)
    among = [
        f"{is_among(one, pairs).sum():,} of {len(one):,}"
        for one in (copies.listed, copies.listed_as_similar)
    ]
    asked = np.unique(pairs[pairs < tests])
    within = (pairs[:, 0] >= tests).sum()
    milliseconds = 1000 * cpu / len(copies.files)
    return [f"{len(pairs):,}", f"{within:,}", *among, f"{len(asked):,}", f"{milliseconds:.1f}"]


def draw_sheet(pairs: NDArray[np.int64], copies: CopySet, path: Path) -> None:
    """Draws some of the pairs that aren't listed."""
    known = np.concatenate([copies.listed, copies.listed_as_similar])
    pairs = np.random.default_rng(0).permutation(pairs[~is_among(pairs, known)])
    links = coo_array((np.ones(len(pairs)), pairs.T), [len(copies.files)] * 2)
    groups = connected_components(links, directed=False)[1][pairs[:, 0]]
    taken, chosen = Counter[int](), list[list[int]]()
    for pair, group in zip(pairs.tolist(), groups.tolist(), strict=True):
        if taken[group] < OF_ONE_GROUP and len(chosen) < ON_SHEET:
            taken[group] += 1
            chosen.append(pair)
    sheet = Image.new("RGB", (ACROSS * (2 * PICTURE + 8), -(-ON_SHEET // ACROSS) * (PICTURE + 8)))
    for number, pair in enumerate(chosen):
        down, across = divmod(number, ACROSS)
        for side, file in enumerate(copies.files[one] for one in pair):
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
