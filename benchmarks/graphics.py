"""Are graphics told apart that differ in one thing, and are copies of them found?

    python benchmarks/graphics.py [--count 10]

Draws charts, pages of text and codes of one layout each. A graphic is compared on its pixels, as
`dedup find` does, with copies of itself, with the same but for one bar, word, number or 3 x 3
modules, and with another one of its layout; each of these as it is, blurred, compressed, scaled and
with noise. Printed is the share that passes for a copy. Beside it a perceptual hash (embedkit's) by
the usual rule: at most 10 of its 64 bits differ.
"""

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from support.compared import prepared, scores_of
from support.machine import print_facts
from support.tables import print_table

from embedkit.decode.phash import perceptual_hash, thumbnail

Picture = Image.Image
_LETTERS = list("abdeghiklmnoprstu")
_BITS = 10


def word(rng: np.random.Generator, letters: int = 5) -> str:
    return "".join(rng.choice(_LETTERS, letters))


def page(seed: int, changed: bool = False) -> Picture:
    image = Image.new("RGB", (800, 1000), "white")
    pen, rng, font = ImageDraw.Draw(image), np.random.default_rng(seed), ImageFont.load_default(22)
    for line in range(30):
        words = [word(rng) for _ in range(9)]
        words[3] = "zxqjv" if changed and line == 14 else words[3]
        pen.text((60, 60 + 29 * line), " ".join(words), font=font, fill="black")
    return image


def chart(seed: int, changed: bool = False, number: bool = False) -> Picture:
    image = Image.new("RGB", (700, 500), "white")
    pen, rng = ImageDraw.Draw(image), np.random.default_rng(seed)
    heights = rng.integers(60, 380, 12).tolist()
    heights[4] += (120 if heights[4] < 200 else -120) if changed else 0
    numbers = rng.integers(100, 999, 6).tolist()
    numbers[2] = 1099 - numbers[2] if number else numbers[2]
    pen.line((50, 40, 50, 440, 680, 440), fill="black", width=3)
    for at, height in enumerate(heights):
        pen.rectangle((60 + at * 50, 440 - height, 95 + at * 50, 440), fill=(40, 90, 180))
    for at, value in enumerate(numbers):
        pen.text((8, 430 - at * 70), str(value), font=ImageFont.load_default(16), fill="black")
    return image


def chart_number(seed: int, changed: bool = False) -> Picture:
    return chart(seed, number=changed)


def code(seed: int, changed: bool = False) -> Picture:
    modules = np.random.default_rng(seed).random((33, 33)) < 0.5
    if changed:
        modules[15:18, 15:18] = np.random.default_rng(seed + 1).permutation(9).reshape(3, 3) < 5
    return Image.fromarray(np.kron(modules, np.full((15, 15), 255, np.uint8))).convert("RGB")


def jpeg(image: Picture) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=10)
    return Image.open(file).convert("RGB")


def noisy(image: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0, 15, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def scaled(image: Picture) -> Picture:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


KINDS = {
    "page, one word": page,
    "chart, one bar": chart,
    "chart, one number": chart_number,
    "code, 3 x 3 modules": code,
}
WORSE: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda image: image,
    "blurred, 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blurred, 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "blurred, 4 px": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
    "JPEG quality 10": jpeg,
    "half the size": scaled,
    "noise": noisy,
}


def is_copy(first: Picture, second: Picture) -> bool:
    return bool(scores_of([prepared([first, second])])[0] > 0.5)


def has_near_hash(first: Picture, second: Picture) -> bool:
    one, other = (perceptual_hash(thumbnail(image)) for image in (first, second))
    return (one ^ other).bit_count() <= _BITS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    args = parser.parse_args()
    print_facts()
    rows = []
    for kind, draw in KINDS.items():
        for name, worse in WORSE.items():
            cells = []
            for passes in (is_copy, has_near_hash):
                pairs = [
                    [
                        passes(draw(seed), worse(draw(seed))),
                        passes(draw(seed), worse(draw(seed, changed=True))),
                        passes(draw(seed), worse(draw(seed + args.count))),
                    ]
                    for seed in range(args.count)
                ]
                cells += [f"{share:.0%}" for share in np.mean(pairs, 0)]
            rows.append([kind, name, *cells])
    header = [
        "",
        "",
        "copies",
        "one thing changed",
        "others",
        *["PHash: copies", "changed", "others"],
    ]
    print_table(header, rows)


if __name__ == "__main__":
    main()
