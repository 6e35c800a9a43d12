"""Fits the weights by which the original of several copies is found, and says how well they do.

    python benchmarks/fit_original_model.py --images photos/ Faces/

Each photograph is edited in 26 ways (twice each kind that calibration draws, and enlarged), and
each edit is saved as JPEG of a quality from 60 to 98 or as PNG. Fitted is a conditional logistic
regression: of two, an original and an edit that could stand for it; of more, an original and 2 or
3 edits. Of the photographs each second one is fitted on. Printed are the weights, as
``embedkit/dedup/cleanup/original.py`` has them, and how often the original comes first among edits
that are others (``edits.py``, and enlarged), of the photographs that weren't fitted on.
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edits import EDITS, Edit, encode
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from support.numbered import images_below

from embedkit.dedup.cleanup.original import MEASURES, measure
from embedkit.dedup.cleanup.traces import Traces, find_traces
from embedkit.dedup.scoring.edits import EDITS as DRAWN

QUALITIES = (0, 60, 75, 85, 90, 90, 92, 95, 98)  # 0 is PNG
FITTED, TESTED = (2, 3), (2, 3, 8, 0)  # edits in a group, 0 is all
REPEATS = 6
RIDGE = 0.01
GOOD_IF_LARGE = {"camera", "pixels"}
# The qualities here are drawn, so they can't say that people compress what they edit.
LEAST_OF_TWO, LEAST_OF_MANY = 0.5, 0.25  # of "step"; of many, other measures tell more
SHARED = 5  # the last measures, which two images share
NOT_INSTEAD = ("overlay", "text", "shapes", "pasted")  # these never replace their original


@dataclass(frozen=True)
class Group:
    """Traces of an original, first, and of its edits; the edits' names; a seed."""

    seed: int
    images: list[Traces]
    edits: list[str]

    def some(self, chosen: Sequence[int]) -> NDArray[np.float64]:
        return measure([self.images[0], *(self.images[1 + at] for at in chosen)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--most", type=int, default=160, help="photographs of each folder")
    args = parser.parse_args()
    folders = [images_below(folder) for folder in args.images]
    photos = [p for folder in folders for p in folder[:: max(len(folder) // args.most, 1)]]
    fitted = [group_of(photo, drawn(), number) for number, photo in enumerate(photos[::2])]
    tested = [
        group_of(photo, EDITS | {"enlarged": enlarged}, number)
        for number, photo in enumerate(photos[1::2])
    ]
    of_own = [*bounds_of(LEAST_OF_TWO)[:-SHARED], *[(0, 0)] * SHARED]
    of_two = fit([table for group in fitted for table, _ in pairs(group)], of_own)
    of_many = fit(
        [table for group in fitted for size in FITTED for table, _ in sets(group, size)],
        bounds_of(LEAST_OF_MANY),
    )
    for name, weights in (("_OF_TWO", of_two), ("_OF_MANY", of_many)):
        print(name, "= (", ", ".join(f"{weight:.2f}" for weight in weights), ")")
    print(f"original first, of {len(tested)} photographs that weren't fitted on:")
    report("of two", of_two, [one for group in tested for one in pairs(group)])
    for size in TESTED:
        report(f"of {size + 1 if size else len(EDITS) + 2}", of_many,
               [one for group in tested for one in sets(group, size)])  # fmt: skip


def bounds_of(least_step: float) -> list[tuple[float, float]]:
    """Of each weight: whether it may speak for an image or against it."""
    return [
        (-1e6, 0) if name in GOOD_IF_LARGE else (least_step if name == "step" else 0, 1e6)
        for name in MEASURES
    ]


def drawn() -> dict[str, Edit]:
    edits = {f"{kind} {n}": (lambda image, rng, _, edit=edit: edit(image, rng))
             for kind, edit in DRAWN.items() for n in (1, 2)}  # fmt: skip
    return edits | {f"enlarged {n}": enlarged for n in (1, 2)}


def enlarged(image: Image.Image, rng: np.random.Generator, _: Image.Image) -> Image.Image:
    factor = rng.uniform(1.1, 3)
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling(int(rng.choice([1, 2, 3]))))


def group_of(photo: Path, edits: dict[str, Edit], number: int) -> Group:
    rng = np.random.default_rng(number)
    image = Image.open(photo).convert("RGB")
    traces = [traces_of(photo.read_bytes())]
    edited = (edit(image, rng, image.rotate(180)) for edit in edits.values())
    traces.extend(traces_of(saved(one, rng)) for one in edited)
    return Group(number, traces, list(edits))


def saved(image: Image.Image, rng: np.random.Generator) -> bytes:
    quality = int(rng.choice(QUALITIES))
    return encode(image, quality, int(rng.choice([0, 2])) if quality else -1)


def traces_of(data: bytes) -> Traces:
    return find_traces(data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def pairs(group: Group) -> Iterator[tuple[NDArray[np.float64], list[str]]]:
    """The original and one edit that could stand for it."""
    for at, edit in enumerate(group.edits):
        if not any(name in edit for name in NOT_INSTEAD):
            yield group.some([at]), [edit]


def sets(group: Group, size: int) -> Iterator[tuple[NDArray[np.float64], list[str]]]:
    """The original and some edits."""
    rng = np.random.default_rng([group.seed, size])
    for _ in range(REPEATS if size else 1):
        chosen = rng.permutation(len(group.edits))[: size or None].tolist()
        yield group.some(chosen), [group.edits[at] for at in chosen]


def fit(
    tables: list[NDArray[np.float64]], bounds: list[tuple[float, float]]
) -> NDArray[np.float64]:
    """Weights within bounds with which the first row of each table has the least sum."""
    spread = np.concatenate([table - table.mean(axis=0) for table in tables]).std(axis=0) + 1e-6
    by_size = {len(table): [] for table in tables}
    for table in tables:
        by_size[len(table)].append(table / spread)
    stacks = [np.array(stack) for stack in by_size.values()]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = RIDGE * weights @ weights, 2 * RIDGE * weights
        for stack in stacks:
            sums = -(stack @ weights)
            shares = np.exp(sums - sums.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            value -= np.log(shares[:, 0] + 1e-12).mean()
            slope = slope + (stack[:, 0] - (shares[:, :, None] * stack).sum(axis=1)).mean(axis=0)
        return value, slope

    scaled = [(low * at, high * at) for (low, high), at in zip(bounds, spread, strict=True)]
    start = np.zeros(len(spread))
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=scaled).x / spread


def report(
    name: str, weights: NDArray[np.float64], cases: list[tuple[NDArray[np.float64], list[str]]]
) -> None:
    lost = Counter()
    for table, edits in cases:
        first = int((table @ weights).argmin())
        if first:
            lost[edits[first - 1]] += 1
    right = 1 - lost.total() / len(cases)
    print(f"{name:8} {right:6.1%} of {len(cases)}; lost to {dict(lost.most_common(8))}")


if __name__ == "__main__":
    main()
