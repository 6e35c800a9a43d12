"""The photos that a benchmark runs on: a folder's, repeated by links, or made large."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def image_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def repeat(images: Path, count: int, folder: Path) -> Path:
    """A new folder of ``count`` links to the images, over and over, a thousand a subfolder."""
    files = image_files(images)
    for number in range(count):
        source = files[number % len(files)]
        shelf = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            shelf.mkdir(parents=True)
        (shelf / f"{number:07d}{source.suffix}").symlink_to(source.resolve())
    return folder


def warm(folder: Path) -> None:
    """Reads every file once, so that no part pays for the disk."""
    for path in {path.resolve() for path in image_files(folder)}:
        path.read_bytes()


def enlarge(data: Sequence[bytes], megapixels: float, *, progressive: bool = False) -> list[bytes]:
    """Each photo scaled up to a camera's size, as a JPEG of quality 90 (4:2:0).

    Scaling leaves no detail at the size of a pixel, and such a JPEG decodes too easily. Grain of a
    standard deviation of three levels brings the file to a camera's bytes a pixel.
    """
    return [_enlarged(one, megapixels, seed, progressive) for seed, one in enumerate(data)]


def _enlarged(data: bytes, megapixels: float, seed: int, progressive: bool) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (round(image.width * factor), round(image.height * factor))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    grain = np.random.default_rng(seed).standard_normal(pixels.shape[:2], np.float32)
    noisy = np.clip(pixels + 3 * grain[..., None], 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noisy).save(encoded, "JPEG", quality=90, progressive=progressive)
    return encoded.getvalue()
