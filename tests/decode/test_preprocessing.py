from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from images import draw_photo
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from embedkit.decode.preprocessing import Preprocessing

_MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


def _torchvision(image: Image.Image, settings: Preprocessing) -> np.ndarray:
    size = [settings.crop] * 2 if settings.crop_mode == "squash" else [settings.resize]
    resized = functional.resize(image, size, _MODES[settings.interpolation], antialias=True)
    return np.asarray(functional.center_crop(resized, [settings.crop]))


def _noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(max_examples=150)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    resize=st.integers(1, 300),
    crop=st.integers(1, 300),
    interpolation=st.sampled_from(sorted(_MODES)),
    crop_mode=st.sampled_from(["center", "squash"]),
)
@example(1, 300, 256, 224, "bilinear", "center")
@example(300, 1, 256, 224, "bicubic", "center")
@example(1, 1, 1, 1, "bilinear", "center")
@example(224, 224, 224, 224, "bilinear", "center")
@example(257, 256, 256, 224, "bilinear", "center")
@example(5, 3, 3, 8, "lanczos", "center")
def test_equals_torchvision(width, height, resize, crop, interpolation, crop_mode) -> None:
    preprocessing = Preprocessing(resize, crop, interpolation, crop_mode=crop_mode)
    image = _noise(width, height)
    if max(preprocessing.resized_size(image.size)) > 60_000:
        return
    assert np.array_equal(preprocessing.apply(image), _torchvision(image, preprocessing))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 500), (1023, 767), (256, 256)])
def test_equals_torchvision_on_photos(size: tuple[int, int]) -> None:
    image = draw_photo(1, size)
    for preprocessing in (Preprocessing(), Preprocessing(232, 224, "bicubic")):
        assert np.array_equal(preprocessing.apply(image), _torchvision(image, preprocessing))


def test_gives_a_contiguous_writable_array_and_leaves_the_image_alone() -> None:
    image = draw_photo(2, (224, 224))
    before = image.tobytes()
    pixels = Preprocessing(resize=224).apply(image)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    pixels[:] = 0
    assert image.tobytes() == before


def test_pads_with_black() -> None:
    pixels = Preprocessing(resize=2, crop=5).apply(Image.new("RGB", (2, 2), (9, 8, 7)))
    assert pixels[1, 1].tolist() == [9, 8, 7]
    assert pixels[2, 2].tolist() == [9, 8, 7]
    assert int(pixels.sum()) == 4 * (9 + 8 + 7)


def test_refuses_what_scaling_would_blow_up() -> None:
    preprocessing = Preprocessing()
    preprocessing.check((1, 1500))
    for size in ((1, 10_000), (10_000, 1)):
        with pytest.raises(ValueError, match=r"^too narrow: .* exceed 100,000,000 pixels$"):
            preprocessing.check(size)
        with pytest.raises(ValueError, match="too narrow"):
            preprocessing.apply(Image.new("RGB", size))
    Preprocessing(crop_mode="squash").check((1, 10_000))


def test_takes_rgb_only() -> None:
    with pytest.raises(ValueError, match="RGB image is needed, not L"):
        Preprocessing().apply(Image.new("L", (9, 9)))


@pytest.mark.parametrize(
    "bad",
    [
        {"resize": 0},
        {"crop": -1},
        {"interpolation": "cubic"},
        {"crop_mode": "random"},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (0.5,)},
    ],
)
def test_refuses_bad_settings(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"must be|none of|take"):
        Preprocessing(**bad)


def test_config_round_trips_through_json() -> None:
    for made in (
        Preprocessing(),
        Preprocessing(288, 288, "bicubic", (0.5,) * 3, (0.5,) * 3, "squash"),
    ):
        assert Preprocessing.from_config(json.loads(json.dumps(made.to_config()))) == made
    with pytest.raises(TypeError):
        Preprocessing.from_config({"resise": 3})
