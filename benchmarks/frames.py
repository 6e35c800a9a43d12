"""Do two frames of a scene in which something moves pass for copies?

    python benchmarks/frames.py --images photos/ [--videos a.mp4 b.mp4]

Two frames are drawn of each photograph: something cut out of another photograph moves before it,
gives way to another thing or leaves (support/frames.py), or an even shape moves. Printed is the
share of pairs that pass for copies on their pixels at the default threshold, before a store says
more, and with a score of 0.99 or more; of videos that of frames half a second and more apart.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import cv2
from PIL import Image
from support.compared import THRESHOLD, prepared, scores_of
from support.frames import two_frames, two_frames_of_a_shape
from support.machine import print_facts
from support.numbered import images_below
from support.tables import print_table

SHAPES = (0.15, 0.25, 0.35, 0.45)
GAPS = (0.5, 1.0, 2.0)  # seconds

Pair = tuple[Image.Image, Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    print_facts()
    photos = [Image.open(one).convert("RGB") for one in images_below(args.images)]
    others = photos[1:] + photos[:1], photos[2:] + photos[:2]
    drawn = [
        two_frames(*pictures, seed)
        for seed, pictures in enumerate(zip(photos, *others, strict=True))
    ]
    rows = [row("a thing moves, changes or leaves", drawn)]
    for share in SHAPES:
        moved = [two_frames_of_a_shape(photo, share, seed) for seed, photo in enumerate(photos)]
        rows.append(row(f"an even shape of {share:.0%} moves", moved))
    for path in args.videos:
        frames, rate = frames_of(path)
        for gap in GAPS:
            step = round(gap * rate)
            pairs = [
                (frames[n], frames[n + step])
                for n in range(0, len(frames) - step, max(round(rate / 4), 1))
            ]
            rows.append(row(f"{path.name}, {gap} s apart", pairs))
    print_table(("two frames", "pairs", "pass for copies", "with a score of 0.99"), rows)


def row(name: str, pairs: Iterable[Pair]) -> tuple[str, ...]:
    scores = scores_of(map(prepared, pairs))
    shares = ((scores >= least).mean() for least in (THRESHOLD, 0.99))
    return name, str(len(scores)), *(f"{share:.0%}" for share in shares)


def frames_of(path: Path) -> tuple[list[Image.Image], float]:
    """The frames of a video, and how many there are a second."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))
    return frames, video.get(cv2.CAP_PROP_FPS)


if __name__ == "__main__":
    main()
