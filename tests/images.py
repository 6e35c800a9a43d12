"""Synthetic photos for tests: the same seed always draws the same pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pathlib import Path

_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


def draw_photo(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """An RGB picture with a coloured gradient, a few shapes, waves and noise."""
    rng = np.random.default_rng(seed)
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    corners = rng.uniform(0, 255, (3, 3))
    light = x[..., None] * corners[0] + y[..., None] * corners[1] + (1 - x)[..., None] * corners[2]
    waves = np.sin(2 * np.pi * (x * rng.uniform(1, 9) + y * rng.uniform(1, 9)))
    light = light * 0.6 + 25 * waves[..., None]
    picture = Image.fromarray(light.clip(0, 255).astype(np.uint8))
    _draw_shapes(picture, rng)
    noisy = np.asarray(picture).astype(np.float64) + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _draw_shapes(picture: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(picture)
    for number in range(6):
        left, top = rng.uniform(-0.2, 0.8, 2) * picture.size
        right, bottom = (left, top) + rng.uniform(0.1, 0.5, 2) * picture.size
        color = tuple(int(level) for level in rng.integers(0, 256, 3))
        draw = pen.ellipse if number % 2 else pen.rectangle
        draw((left, top, right, bottom), fill=color)


def encode(image: Image.Image, format: str, **opts: Any) -> bytes:  # noqa: A002
    """The bytes of a file of this format."""
    buffer = io.BytesIO()
    image.save(buffer, format, **opts)
    return buffer.getvalue()


def write_photos(
    folder: Path,
    n: int,
    *,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    format: str = "JPEG",  # noqa: A002
    **opts: Any,
) -> list[Path]:
    """Write ``photo_0000.jpg`` and so on, drawn with the seeds from ``seed`` on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(n):
        path = folder / f"photo_{number:04d}.{_EXTENSIONS[format]}"
        path.write_bytes(encode(draw_photo(seed + number, size), format, **opts))
        paths.append(path)
    return paths
