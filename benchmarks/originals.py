"""Which image does a plan keep: the original, or an edit of it?

    python benchmarks/originals.py --images photos/ --originals 12

Each photograph is edited in 25 ways (benchmarks/edits.py). Each edit is saved as JPEG of quality
90, and once more in a quality drawn from 60 to 98 or as PNG; it is alone with its original in a
group. Printed is for each policy how often the plan keeps the original (or both, where the pixels
differ), and how often it removes the edit.
"""

import argparse
import io
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from edits import EDITS, encode
from PIL import Image

from embedkit.dedup.cleanup.compare import PixelComparison
from embedkit.dedup.cleanup.keep_policy import Candidate, KeepPolicy
from embedkit.dedup.cleanup.traces import judge

POLICIES = ("original", "best-quality", "largest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--originals", type=int, default=12)
    args = parser.parse_args()
    photos = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"})
    photos = photos[:: max(len(photos) // args.originals, 1)][: args.originals]
    kept, gone, cases = Counter(), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, photo in enumerate(photos):
            other = Image.open(photos[number - 1]).convert("RGB")
            rng = np.random.default_rng(number)
            image = Image.open(photo).convert("RGB")
            for kind, change in EDITS.items():
                edited = change(image, rng, other)
                for quality in (90, int(rng.choice([0, 60, 75, 85, 92, 95, 98]))):
                    file = Path(folder) / ("edit.jpg" if quality else "edit.png")
                    file.write_bytes(encode(edited, quality) if quality else png(edited))
                    cases += 1
                    for policy, (stays, removes) in decide(photo, file).items():
                        kept[policy] += stays
                        gone[policy] += removes
                        if not stays and policy == "original":
                            kept[kind] += 1
    for policy in POLICIES:
        print(f"{policy:14} original kept {kept[policy] / cases:6.1%}  "
              f"edit removed {gone[policy] / cases:6.1%} of {cases}")  # fmt: skip
    print("lost originals by edit:", {k: n for k, n in kept.most_common() if k not in POLICIES})


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def decide(original: Path, edit: Path) -> dict[str, tuple[bool, bool]]:
    """By policy, whether the original stays and whether the edit goes."""
    strict, comparison = (
        PixelComparison(lambda key: Path(key[1]).read_bytes(), resolution=resolution)
        for resolution in (True, False)
    )
    keys = [(0, str(original)), (0, str(edit))]
    traces = [comparison.traces(key) for key in keys]
    judged = judge([one for one in traces if one is not None])
    candidates = []
    for at, (path, (score, _)) in enumerate(zip((original, edit), judged, strict=True)):
        with Image.open(path) as image:
            candidates.append(
                Candidate(path.name, 1 - at, *image.size, path.stat().st_size,
                          str(image.format), edited=score)
            )  # fmt: skip
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
