"""Making edited copies of images, as people and web sites do, to try a finder of copies on.

Each kind of edit has a strength that is drawn at random, from hardly visible to severe, and every
copy is a JPEG file. The same image, kind and seed give the same pixels.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EDITS", "make_copy"]

_QUALITY = 92
_WORDS = ("Follow for more", "SALE -30%", "(c) all rights reserved", "12:34", "look at this!")


def make_copy(image: Image.Image, kind: str, seed: int) -> bytes:
    """Edits an image.

    Args:
        image: Mode RGB.
        kind: One of ``EDITS``.
        seed: Draws the strength and all else that is random.

    Returns:
        A JPEG file.

    Raises:
        ValueError: There is no such kind of edit.
    """
    if kind not in EDITS:
        raise ValueError(f"no kind of edit {kind!r}; there are {', '.join(EDITS)}")
    rng = np.random.default_rng([seed, *kind.encode()])
    edited = EDITS[kind](image, rng)
    return _encode(edited, int(rng.integers(70, 96)) if kind == "combination" else _QUALITY)


def _encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _compress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.open(io.BytesIO(_encode(image, int(rng.integers(5, 60))))).convert("RGB")


def _scale(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = np.exp(rng.uniform(np.log(0.15), np.log(1.5)))
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    return image.resize(_size(image, factor * stretch, factor / stretch), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = _size(image, rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))
    width, height = min(width, image.width), min(height, image.height)
    left, top = rng.integers((image.width - width + 1, image.height - height + 1)).tolist()
    return image.crop((left, top, left + width, top + height))


def _flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image) if rng.random() < 0.8 else ImageOps.flip(image)


def _rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.3:
        turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
        return image.transpose(turns[int(rng.integers(3))])
    angle, expand = rng.uniform(-30, 30), bool(rng.random() < 0.5)
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=expand, fillcolor=_color(rng))


def _colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.2:
        return ImageOps.grayscale(image).convert("RGB")
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(float(np.exp(rng.uniform(-0.9, 0.7))))
    bands = list(image.convert("HSV").split())
    turn = int(rng.integers(-40, 41))
    bands[0] = bands[0].point([(level + turn) % 256 for level in range(256)])
    return Image.merge("HSV", bands).convert("RGB")


def _blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    radius = np.exp(rng.uniform(np.log(0.002), np.log(0.015))) * max(image.size)
    return image.filter(ImageFilter.GaussianBlur(float(radius)))


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    grain = rng.normal(0, rng.uniform(5, 60), (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def _text(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    out = image.copy()
    pen = ImageDraw.Draw(out)
    for _ in range(int(rng.integers(1, 4))):
        font = ImageFont.load_default(max(min(image.size) * rng.uniform(0.05, 0.16), 6))
        spot = rng.uniform(0.02, 0.6) * image.width, rng.uniform(0, 0.85) * image.height
        pen.text(spot, str(rng.choice(_WORDS)), _color(rng), font)
    return out


def _border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    sides = (rng.uniform(0.0, 0.25, 4) * min(image.size)).astype(int).tolist()
    return ImageOps.expand(image, tuple(sides), _color(rng))


def _overlay(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Shapes over up to a quarter of the image, some of them half transparent."""
    top = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(top)
    for number in range(int(rng.integers(1, 6))):
        side = rng.uniform(0.1, 0.3) * min(image.size)
        x, y = rng.uniform(0, 1, 2) * (image.width - side, image.height - side)
        draw = pen.rectangle if number % 2 else pen.ellipse
        draw((x, y, x + side, y + side), fill=(*_color(rng), int(rng.integers(120, 256))))
    return Image.alpha_composite(image.convert("RGBA"), top).convert("RGB")


def _combination(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Three other edits, one after the other."""
    names = [name for name in EDITS if name != "combination"]
    for name in rng.choice(names, 3, replace=False):
        image = EDITS[str(name)](image, rng)
    return image


def _size(image: Image.Image, across: float, down: float) -> tuple[int, int]:
    return max(round(image.width * across), 8), max(round(image.height * down), 8)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


EDITS: Mapping[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "compression": _compress,
    "scale": _scale,
    "crop": _crop,
    "flip": _flip,
    "rotation": _rotate,
    "colour": _colour,
    "blur": _blur,
    "noise": _noise,
    "text": _text,
    "border": _border,
    "overlay": _overlay,
    "combination": _combination,
}
"""The kinds of edit."""
