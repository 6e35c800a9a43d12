"""Twenty-five ways to make a copy of a photograph, from mild to brutal, for `copies.py`.

They are apart from those that ``embedkit.dedup.scoring.edits`` calibrates with: other strengths,
other fonts and shapes, and three kinds (perspective, pasted into another photo, mosaic of noise)
that calibration doesn't know.
"""
# ruff: noqa: ARG001, ARG005  # all edits take the same arguments

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

__all__ = ["EDITS", "Edit", "encode"]

Edit = Callable[[Image.Image, np.random.Generator, Image.Image], Image.Image]


def encode(image: Image.Image, quality: int = 90, subsampling: int = -1) -> bytes:
    """A JPEG file; a PNG file if the quality is 0. Pillow chooses the subsampling -1."""
    file = io.BytesIO()
    if quality:
        image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    else:
        image.save(file, "PNG")
    return file.getvalue()


def jpeg(quality: int) -> Edit:
    return lambda image, rng, other: Image.open(io.BytesIO(encode(image, quality))).convert("RGB")


def scale(factor: float) -> Edit:
    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        size = (max(round(side * factor), 8) for side in image.size)
        return image.resize(tuple(size), Image.Resampling.LANCZOS)

    return edit


def crop(share: float) -> Edit:
    """Leaves this share of the width and of the height, from anywhere."""

    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        width, height = (round(side * share) for side in image.size)
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def rotate(degrees: float) -> Edit:
    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        return image.rotate(degrees, Image.Resampling.BICUBIC, expand=degrees == 90)

    return edit


def enhance(kind: type, factor: float) -> Edit:
    return lambda image, rng, other: kind(image).enhance(factor)


def hue(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """Turns the colour circle by a fifth."""
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point(lambda level: (level + 51) % 256)
    return Image.merge("HSV", bands).convert("RGB")


def blur(share: float) -> Edit:
    """Gaussian, its radius this share of the longer side."""
    return lambda image, rng, other: image.filter(ImageFilter.GaussianBlur(share * max(image.size)))


def noise(sigma: float) -> Edit:
    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        noisy = np.asarray(image) + rng.normal(0, sigma, (image.height, image.width, 3))
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    return edit


def text(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """Three large lines across the picture, as on a meme."""
    out = image.copy()
    pen = ImageDraw.Draw(out)
    font = ImageFont.load_default(image.width / 9)
    for line, height in (("WHEN YOU SEE", 0.02), ("the same photo", 0.42), ("ONCE AGAIN", 0.82)):
        spot = (image.width / 2, image.height * height)
        pen.text(spot, line, "white", font, anchor="ma", stroke_width=3, stroke_fill="black")
    return out


def border(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """A coloured frame, a sixth of the shorter side wide."""
    fill = tuple(int(level) for level in rng.integers(0, 256, 3))
    return ImageOps.expand(image, min(image.size) // 6, fill)


def overlay(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """Opaque shapes over about a fifth of the picture."""
    out = image.copy()
    pen = ImageDraw.Draw(out)
    side = min(image.size) * 0.27
    for number in range(4):
        left, top = rng.uniform(0, 1, 2) * (image.width - side, image.height - side)
        fill = tuple(int(level) for level in rng.integers(0, 256, 3))
        draw = pen.ellipse if number % 2 else pen.rectangle
        draw((left, top, left + side, top + side), fill=fill)
    return out


def perspective(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """A photo of the photo, taken from the side."""
    width, height = image.size
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], float)
    corners += rng.uniform(-0.12, 0.12, (4, 2)) * (width, height)
    return image.transform(
        image.size, Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BICUBIC
    )


def pasted(share: float) -> Edit:
    """Pasted somewhere into another photo, with this share of its width and height."""

    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        out = other.resize(image.size, Image.Resampling.BICUBIC)
        small = image.resize(tuple(round(side * share) for side in image.size))
        spot = rng.uniform(0, 1, 2) * (image.width - small.width, image.height - small.height)
        out.paste(small, tuple(spot.astype(int).tolist()))
        return out

    return edit


def together(*edits: Edit) -> Edit:
    def edit(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
        for one in edits:
            image = one(image, rng, other)
        return image

    return edit


def mirror(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    return ImageOps.mirror(image)


def gray(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


EDITS: dict[str, Edit] = {
    "JPEG quality 50": jpeg(50),
    "JPEG quality 8": jpeg(8),
    "scaled to 1/6": scale(1 / 6),
    "cropped to 90%": crop(0.9),
    "cropped to 70%": crop(0.7),
    "cropped to 50%": crop(0.5),
    "cropped to 35%": crop(0.35),
    "mirrored": mirror,
    "rotated by 4": rotate(4),
    "rotated by 25": rotate(25),
    "rotated by 90": rotate(90),
    "brightened": enhance(ImageEnhance.Brightness, 1.8),
    "darkened": enhance(ImageEnhance.Brightness, 0.35),
    "hue turned": hue,
    "blurred much": blur(0.016),
    "noise, much": noise(70),
    "text": text,
    "border": border,
    "shapes over it": overlay,
    "gray, mirrored, crop 70%": together(gray, mirror, crop(0.7)),
    "hue, rotated by 12, text": together(hue, rotate(12), text),
    "blur, crop 60%, JPEG 15": together(blur(0.006), crop(0.6), jpeg(15)),
    "noise, border, 1/3": together(noise(40), border, scale(1 / 3)),
    "perspective, mirrored": together(perspective, mirror),
    "pasted into another": pasted(0.5),
}
