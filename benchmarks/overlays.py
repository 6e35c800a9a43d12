"""Are photographs still found to be copies under edits that no model was fitted on?

    python benchmarks/overlays.py --images photos/

Captions, stickers, other pictures, screens, frames, colours: each photograph is compared on its
pixels with its edited copy. Printed is the share that passes for a copy at the default threshold
before a store says more, and the share of another photograph under the same edit.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from support.compared import THRESHOLD, prepared, scores_of
from support.machine import print_facts
from support.numbered import images_below
from support.tables import print_table

Picture = Image.Image
TEXT = "WHEN YOU SEE THE SAME PHOTO"


def captioned(
    image: Picture, _: Picture, share: float, color: str, ink: str, edges: str
) -> Picture:
    """Even bands of a share of the height over ``edges``: top, bottom or both."""
    out = image.copy()
    for edge, top in (("top", 0.0), ("bottom", 1 - share)):
        if edges in {edge, "both"}:
            band(out, (0, top, 1, top + share), color, ink)
    return out


def band(image: Picture, box: tuple[float, float, float, float], color: str, ink: str = "") -> None:
    """Draws a rectangle, ``box`` in shares of the image, with text if there is an ink."""
    left, top, right, bottom = in_pixels(image, box)
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, right, bottom), fill=color)
    if ink:
        font = ImageFont.load_default(max((bottom - top) * 0.6, 6))
        pen.text(((left + right) / 2, (top + bottom) / 2), TEXT, ink, font, anchor="mm")


def in_pixels(image: Picture, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    across, down = image.size
    return int(left * across), int(top * down), int(right * across), int(bottom * down)


def banded(
    image: Picture, _: Picture, box: tuple[float, float, float, float], color: str, ink: str = ""
) -> Picture:
    out = image.copy()
    band(out, box, color, ink)
    return out


def with_picture(
    image: Picture, other: Picture, share: float, place: tuple[float, float]
) -> Picture:
    """Another picture of a share of the width and height over a place, 0 to 1 across and down."""
    out = image.copy()
    size = max(int(image.width * share), 8), max(int(image.height * share), 8)
    at = (int(place[0] * (out.width - size[0])), int(place[1] * (out.height - size[1])))
    out.paste(other.resize(size), at)
    return out


def with_face(image: Picture, _: Picture, share: float) -> Picture:
    """A yellow face, ``share`` of the shorter side large, left of the middle."""
    out = image.copy()
    pen, radius = ImageDraw.Draw(out), min(image.size) * share / 2
    x, y = image.width / 3, image.height / 2
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 210, 0))
    for side in (-1, 1):
        eye = x + side * radius / 2.5
        pen.ellipse((eye - radius / 8, y - radius / 3, eye + radius / 8, y), fill="black")
    smile = (x - radius / 2, y - radius / 4, x + radius / 2, y + radius / 2)
    pen.arc(smile, 20, 160, fill="black", width=max(int(radius / 12), 1))
    return out


def in_part(image: Picture, _: Picture, change: Callable[[Picture], Picture]) -> Picture:
    """A part of a seventh of the image changed."""
    out, box = image.copy(), in_pixels(image, (1 / 3, 1 / 4, 2 / 3, 2 / 3))
    out.paste(change(out.crop(box)), box)
    return out


def pixelated(image: Picture) -> Picture:
    return image.resize((8, 8)).resize(image.size, Image.Resampling.NEAREST)


def rounded(image: Picture, _: Picture) -> Picture:
    mask = Image.new("L", image.size, 0)
    radius = min(image.size) // 5
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *image.size), radius, fill=255)
    return Image.composite(image, Image.new("RGB", image.size, "white"), mask)


def instant_print(image: Picture, _: Picture) -> Picture:
    edge = image.width // 16
    return ImageOps.expand(image, (edge, edge, edge, image.height // 4), "white")


def on_phone(image: Picture, _: Picture) -> Picture:
    """On the black screen of a phone, with the time above and buttons below."""
    out = Image.new("RGB", (image.width, int(image.width * 2.1)), "black")
    out.paste(image, (0, (out.height - image.height) // 2))
    pen = ImageDraw.Draw(out)
    pen.text((10, 5), "12:30   5G", fill="white")
    for x in range(20, out.width, out.width // 5):
        pen.ellipse((x, out.height - 50, x + 30, out.height - 20), fill="white")
    return out


def side_by_side(image: Picture, other: Picture, down: int) -> Picture:
    """The first of two columns and ``down`` rows of pictures."""
    others = [other, ImageOps.mirror(other), ImageOps.flip(other)]
    out = Image.new("RGB", (2 * image.width, down * image.height))
    for number, one in enumerate([image, *others][: 2 * down]):
        place = number % 2 * image.width, number // 2 * image.height
        out.paste(one.resize(image.size), place)
    return out


def vignetted(image: Picture, _: Picture) -> Picture:
    """Dark towards the corners, which are nearly black."""
    down, across = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.size[::-1]), indexing="ij")
    light = np.clip(1.1 - 0.5 * (down**2 + across**2), 0, 1)[..., None]
    return Image.fromarray((np.asarray(image) * light).clip(0, 255).astype(np.uint8))


def stamped(image: Picture, _: Picture) -> Picture:
    """``stock photo`` all over it."""
    out = image.copy()
    pen, font = ImageDraw.Draw(out), ImageFont.load_default(image.height / 16)
    for y in range(0, image.height, max(image.height // 5, 1)):
        for x in range(0, image.width, max(image.width // 3, 1)):
            pen.text((x, y), "stock photo", "white", font)
    return out


def changed(image: Picture, _: Picture, change: Callable[[Picture], Picture]) -> Picture:
    return change(image).convert("RGB")


EDITS: dict[str, Callable[[Picture, Picture], Picture]] = {
    "caption below, black, 8% of the height": partial(
        captioned, share=0.08, color="black", ink="yellow", edges="bottom"
    ),
    "caption below, black, 12%": partial(
        captioned, share=0.12, color="black", ink="white", edges="bottom"
    ),
    "caption above, white, 20%": partial(
        captioned, share=0.2, color="white", ink="black", edges="top"
    ),
    "caption below, red, 30%": partial(
        captioned, share=0.3, color="firebrick", ink="white", edges="bottom"
    ),
    "captions above and below, 15%": partial(
        captioned, share=0.15, color="black", ink="white", edges="both"
    ),
    "text in a band across the middle": partial(
        banded, box=(0, 0.42, 1, 0.58), color="black", ink="white"
    ),
    "even band at the left, 15%": partial(banded, box=(0, 0, 0.15, 1), color="whitesmoke"),
    "right half covered": partial(banded, box=(0.5, 0, 1, 1), color="white"),
    "text all over it": stamped,
    "a picture in the corner, 1/6": partial(with_picture, share=1 / 6, place=(0.95, 0.95)),
    "a picture in the corner, 1/4": partial(with_picture, share=1 / 4, place=(0.05, 0.95)),
    "a picture in the corner, 1/3": partial(with_picture, share=1 / 3, place=(0.05, 0.05)),
    "a picture near the middle, 1/3": partial(with_picture, share=1 / 3, place=(0.4, 0.6)),
    "a yellow face, 15%": partial(with_face, share=0.15),
    "a yellow face, 25%": partial(with_face, share=0.25),
    "a yellow face, 40%": partial(with_face, share=0.4),
    "a part pixelated": partial(in_part, change=pixelated),
    "a part blurred": partial(in_part, change=lambda one: one.filter(ImageFilter.GaussianBlur(15))),
    "rounded corners": rounded,
    "an instant print's frame": instant_print,
    "on a phone's screen": on_phone,
    "beside another": partial(side_by_side, down=1),
    "one of four": partial(side_by_side, down=2),
    "sepia": partial(
        changed,
        change=lambda one: ImageOps.colorize(one.convert("L"), (40, 20, 0), (255, 240, 200)),
    ),
    "fog": partial(
        changed, change=lambda one: Image.blend(one, Image.new("RGB", one.size, "white"), 0.55)
    ),
    "strong vignette": vignetted,
    "levels stretched": partial(changed, change=partial(ImageOps.autocontrast, cutoff=5)),
    "sharpened": partial(
        changed, change=lambda one: one.filter(ImageFilter.UnsharpMask(3, 300, 0))
    ),
    "3 bits a channel": partial(changed, change=partial(ImageOps.posterize, bits=3)),
    "16 colours": partial(changed, change=lambda one: one.quantize(16)),
    "black and white dots": partial(changed, change=lambda one: one.convert("1")),
    "inverted": partial(changed, change=ImageOps.invert),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=80, help="photographs")
    args = parser.parse_args()
    print_facts()
    photos = [Image.open(one).convert("RGB") for one in images_below(args.images)[: args.count]]
    plain = prepared(photos)
    rows = []
    for name, edit in EDITS.items():
        edited = prepared(map(edit, photos, photos[2:] + photos[:2]))
        scores = [
            scores_of(zip(plain, others, strict=True))
            for others in (edited, edited[1:] + edited[:1])
        ]
        rows.append((name, *(f"{(one >= THRESHOLD).mean():.1%}" for one in scores)))
    print_table(("edit", "copies that pass", "others that pass"), rows)


if __name__ == "__main__":
    main()
