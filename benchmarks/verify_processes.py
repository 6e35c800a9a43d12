"""How fast are pairs of photos compared on their pixels, by threads and by processes?

    python benchmarks/verify_processes.py --images photos/ [--pairs 2000] [--rounds 3]

Each photo is compared with those after it in the folder. The photos are read, and the processes
started, before the time is taken; threads and processes take turns. Printed are pairs per second,
as the median of the rounds, and the ratio to one thread.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median

from support.machine import print_facts, usable_cores
from support.photos import image_files
from support.tables import print_table

from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.geometric import Evidence
from embedkit.dedup.verification.process_comparer import ProcessComparer
from embedkit.extraction.source_images import OriginalImages

Pairs = Sequence[tuple[int, int]]
Compare = Callable[[Pairs], Sequence[Evidence | None]]


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    print_facts()
    names = [str(path) for path in image_files(args.images)]
    with OriginalImages.of_source(args.images, names) as source, ExitStack() as stack:
        ways = {name: stack.enter_context(way) for name, way in comparers(source, names).items()}
        pairs = neighbours(len(names), args.pairs)
        for compare in ways.values():
            compare(pairs)  # reads the photos
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, compare in ways.items():
                rates[name].append(rate(compare, pairs))
    slowest = median(rates["1 thread"])
    rows = [(name, f"{median(r):.0f}", f"{median(r) / slowest:.2f}") for name, r in rates.items()]
    print(f"{len(names)} photos, {len(pairs)} pairs")
    print_table(("compared by", "pairs/s", "x 1 thread"), rows)


def comparers(
    source: OriginalImages, names: Sequence[str]
) -> dict[str, AbstractContextManager[Compare]]:
    """By 1 thread, then by as many threads and processes as there are cores."""
    cores, images = usable_cores(), [(0, name) for name in names]
    return {
        "1 thread": PairComparer(lambda image: source(names[image]), 1),
        f"{cores} threads": PairComparer(lambda image: source(names[image]), cores),
        f"{cores} processes": ProcessComparer([source], images, cores),
    }


def neighbours(images: int, count: int) -> Pairs:
    """The first ``count`` pairs of each image with the next one, the next but one, and so on."""
    found = [(one, one + step) for step in range(1, images) for one in range(images - step)]
    return sorted(found[:count])


def rate(compare: Compare, pairs: Pairs) -> float:
    """Pairs per second."""
    start = time.perf_counter()
    compare(pairs)
    return len(pairs) / (time.perf_counter() - start)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
