"""Which image does a plan keep: the original, or an edit of it?

    python benchmarks/originals.py --images photos/ --originals 12 --groups 80

Each photograph is edited in 25 ways (benchmarks/edits.py). Each edit is saved as JPEG of quality
90, and once more in a quality drawn from 60 to 98 or as PNG; it is alone with its original in a
group. Printed is for each policy how often the plan keeps the original (or both, where the pixels
differ), and how often it removes the edit. And of groups of a photograph and all its edits, of
either way of saving, how often each policy puts the original first. Of the photographs each second
one is taken, as the others were fitted on (benchmarks/fit_original_model.py).
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from PIL import Image
from support.numbered import images_below

from embedkit.dedup.cleanup.compare import PixelComparison
from embedkit.dedup.cleanup.keep_policy import Candidate, KeepPolicy
from embedkit.dedup.cleanup.original import judge

POLICIES = ("original", "best-quality", "largest")
SAVINGS = ("quality 90", "drawn qualities")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--originals", type=int, default=12, help="photographs compared in pairs")
    parser.add_argument("--groups", type=int, default=80, help="photographs with all edits")
    args = parser.parse_args()
    photos = images_below(args.images)[1::2]
    report_pairs(some(photos, args.originals))
    report_groups(some(photos, args.groups))


def some(photos: list[Path], count: int) -> list[Path]:
    return photos[:: max(len(photos) // max(count, 1), 1)][:count]


def edits_of(
    photos: list[Path], folder: Path
) -> Iterator[tuple[Path, list[tuple[str, Path, Path]]]]:
    """Each photograph, and of each kind of edit two files: of quality 90, and of one drawn."""
    for number, photo in enumerate(photos):
        other = Image.open(photos[number - 1]).convert("RGB")
        rng = np.random.default_rng(number)
        image, edits = Image.open(photo).convert("RGB"), []
        for at, (kind, change) in enumerate(EDITS.items()):
            edited, files = change(image, rng, other), []
            for quality in (90, int(rng.choice([0, 60, 75, 85, 92, 95, 98]))):
                file = folder / f"{number}-{at}-{quality}.{'jpg' if quality else 'png'}"
                file.write_bytes(encode(edited, quality))
                files.append(file)
            edits.append((kind, *files))
        yield photo, edits


def report_pairs(photos: list[Path]) -> None:
    kept, gone, lost, cases = Counter(), Counter(), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for photo, edits in edits_of(photos, Path(folder)):
            for kind, *files in edits:
                for file in files:
                    cases += 1
                    for policy, (stays, removes) in decide(photo, file).items():
                        kept[policy] += stays
                        gone[policy] += removes
                        lost[kind] += not stays and policy == "original"
    for policy in POLICIES if cases else ():
        print(
            f"{policy:14} original kept {kept[policy] / cases:6.1%}  "
            f"edit removed {gone[policy] / cases:6.1%} of {cases} pairs"
        )
    print("lost originals by edit:", {kind: n for kind, n in lost.most_common() if n})


def report_groups(photos: list[Path]) -> None:
    first = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for photo, edits in edits_of(photos, Path(folder)):
            for saving, files in zip(SAVINGS, list(zip(*edits, strict=True))[1:], strict=True):
                candidates = candidates_of([photo, *files])
                for policy in POLICIES:
                    best = min(candidates, key=KeepPolicy(policy).rank)
                    first[policy, saving] += best is candidates[0]
    for policy in POLICIES:
        shares = (f"{first[policy, saving] / len(photos):6.1%} ({saving})" for saving in SAVINGS)
        print(
            f"{policy:14} first of {len(EDITS) + 1}:", ", ".join(shares), f"of {len(photos)} groups"
        )


def candidates_of(paths: list[Path]) -> list[Candidate]:
    """The images of a group as a plan sees them; the first one is the last in the store."""
    comparison = PixelComparison(lambda key: Path(key[1]).read_bytes())
    judged = judge([comparison.traces((0, str(path))) for path in paths])
    candidates = []
    for at, (path, (score, _)) in enumerate(zip(paths, judged, strict=True)):
        with Image.open(path) as image:
            candidates.append(
                Candidate(path.name, -at, *image.size, path.stat().st_size, str(image.format),
                          edited=score)
            )  # fmt: skip
    return candidates


def decide(original: Path, edit: Path) -> dict[str, tuple[bool, bool]]:
    """By policy, whether the original stays and whether the edit goes."""
    strict, comparison = (
        PixelComparison(lambda key: Path(key[1]).read_bytes(), resolution=resolution)
        for resolution in (True, False)
    )
    keys = [(0, str(original)), (0, str(edit))]
    candidates = candidates_of([original, edit])
    out = {}
    for name in POLICIES:
        check = strict if name == "original" else comparison
        contained = [not check.why_not(keys[at], keys[1 - at]) for at in (0, 1)]
        policy = KeepPolicy(name)
        original_first = policy.rank(candidates[0]) < policy.rank(candidates[1])
        out[name] = original_first or not contained[0], original_first and contained[1]
    return out


if __name__ == "__main__":
    main()
