"""Measures beside their definitions in plain float64, and on images whose values are known."""

import numpy as np
import pytest
from images import draw_photo
from PIL import Image, ImageFilter

from embedkit.decode.phash import thumbnail
from embedkit.decode.quality import Measures, measure


def of(*images, side=224, resize=256):
    """The measures of some images, as a decoder would hand them over."""
    pixels = np.stack([np.asarray(image.resize((side, side))) for image in images])
    return measure(pixels, np.stack([thumbnail(image) for image in images]), resize)


def plain(color, size=(300, 300)):
    return Image.new("RGB", size, color)


def by_definition(pixels, small, reach):
    """One image's measures with loops and NumPy's own statistics."""
    weights = np.array([77, 150, 29]) / 256
    red, green, blue = np.moveaxis(small.astype(float), -1, 0)
    luminance = small @ weights
    rg, yb = red - green, (red + green) / 2 - blue
    levels = np.floor(pixels[::7, ::7] @ weights)
    shares = np.bincount(levels.astype(int).ravel(), minlength=256) / levels.size
    g, values = pixels[..., 1].astype(float), []
    for y in range(reach, len(g) - reach, 16):
        for x in range(reach, len(g) - reach):
            around = g[y - reach, x] + g[y + reach, x] + g[y, x - reach] + g[y, x + reach]
            values.append(4 * g[y, x] - around)
    return Measures(
        luminance.mean(), luminance.std(), (levels < 4).mean(), (levels > 251).mean(),
        -sum(share * np.log2(share) for share in shares if share), np.var(values),
        np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()),
        (np.ptp(small.astype(int), axis=-1) <= 3).mean(),
    )  # fmt: skip


@pytest.mark.parametrize(("side", "resize", "reach"), [(64, 256, 1), (96, 518, 2), (33, 20, 1)])
def test_as_defined(side, resize, reach):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, side, side, 3), np.uint8)
    pixels[0] //= 40
    pixels[1, : side // 2] = 255
    small = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    small[2, :5] = 77
    found = measure(pixels, small, resize)
    for number in range(3):
        expected = by_definition(pixels[number], small[number], reach)
        for name, value in expected._asdict().items():
            assert getattr(found, name)[number] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_known_images():
    found = of(plain((0, 0, 0)), plain((255, 255, 255)), plain((128, 128, 128)), plain((255, 0, 0)))
    assert found.luminance.tolist() == pytest.approx([0, 255, 128, 77 / 256 * 255])
    assert found.clipped_dark.tolist() == [1, 0, 0, 0]
    assert found.clipped_bright.tolist() == [0, 1, 0, 0]
    assert found.gray.tolist() == [1, 1, 1, 0]
    for name in ("luminance_std", "entropy", "sharpness"):
        assert getattr(found, name).tolist() == [0, 0, 0, 0], name
    assert found.colorfulness[:3].tolist() == [0, 0, 0]
    assert found.colorfulness[3] == pytest.approx(0.3 * np.hypot(255, 127.5))


def test_blur_lowers_sharpness_and_nothing_else_much():
    photo = draw_photo(3, (400, 300))
    blurred = [photo, *(photo.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 4))]
    found = of(*blurred)
    assert (np.diff(found.sharpness) < 0).all()
    assert found.sharpness[-1] < 0.1 * found.sharpness[0]
    assert found.luminance.std() < 1


def test_the_batch_changes_no_bit():
    photos = [draw_photo(seed) for seed in range(9)]
    together = of(*photos)
    for number, photo in enumerate(photos):
        alone = of(photo)
        for name in Measures._fields:
            assert getattr(alone, name)[0] == getattr(together, name)[number]


def test_none_and_tiny_inputs():
    assert all(len(one) == 0 for one in measure(np.empty((0, 8, 8, 3), "u1"),
                                                np.empty((0, 32, 32, 3), "u1"), 256))  # fmt: skip
    assert of(draw_photo(1), side=2).sharpness.tolist() == [0]
