"""Scaling: NumPy gives PyTorch's bits, whoever is chosen, and PyTorch gets its threads back."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from images import draw_photo, encode, write_photos
from torch.nn.functional import interpolate

import embedkit
from embedkit.decode import resize as resample_module
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.resize import Scaler, scale_in_numpy, scale_in_torch

MODES = ("bilinear", "bicubic")


def oracle(pixels, size, mode):
    """PyTorch, asked directly."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    scaled = interpolate(image, size=size[::-1], mode=mode, antialias=True)
    return scaled[0].permute(1, 2, 0).numpy()


def noise(seed, width, height, kind="noise"):
    """Noise; hard edges, which overshoot; or gray ramps, which round at every level."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "edges":
        return np.where(pixels > 127, 255, 0).astype(np.uint8)
    if kind == "ramp":
        ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] + np.arange(3)
        return ramp.astype(np.uint8)
    return pixels


side = st.one_of(st.integers(1, 8), st.integers(1, 400))


@given(
    st.integers(0, 2**32 - 1), side, side, side, side, st.sampled_from(MODES),
    st.sampled_from(["noise", "edges", "ramp"]),
)  # fmt: skip
@example(0, 1, 1, 1, 1, "bicubic", "noise")
@example(0, 1, 400, 300, 1, "bilinear", "noise")
@example(0, 400, 1, 1, 300, "bicubic", "edges")
@example(0, 300, 200, 300, 50, "bicubic", "noise")  # one side stays
@example(0, 300, 200, 50, 200, "bilinear", "noise")
def test_numpy_gives_pytorchs_bits(seed, width, height, to_width, to_height, mode, kind):
    pixels = noise(seed, width, height, kind)
    found = scale_in_numpy(pixels, (to_width, to_height), mode)
    expected = oracle(pixels, (to_width, to_height), mode)
    assert (found.dtype, found.shape) == (np.uint8, (to_height, to_width, 3))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), [(2600, 1900), (7, 6000), (6000, 7)])
def test_large_images_are_scaled_in_pieces_to_the_same_bits(width, height, mode):
    pixels = noise(1, width, height)
    for size in ((341, 256), (32, 32)):
        np.testing.assert_array_equal(
            scale_in_numpy(pixels, size, mode), oracle(pixels, size, mode)
        )


@pytest.mark.parametrize("scale", [scale_in_numpy, scale_in_torch, Scaler()])
def test_an_image_of_the_right_size_stays_as_it_is(scale):
    pixels = noise(2, 40, 30)
    np.testing.assert_array_equal(scale(pixels, (40, 30), "bicubic"), pixels)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(interpolation="bicubic"),
        Preprocessing(crop_mode="squash"),
        Preprocessing(crop_mode="squash", interpolation="bicubic"),
    ],
)
@pytest.mark.parametrize("size", [(500, 375), (100, 300), (1, 1), (256, 256), (224, 224)])
def test_loaded_images_and_hashes_are_the_same_either_way(preprocessing, size):
    data = encode(draw_photo(4, size), "JPEG", quality=90)
    loaded = [
        ImageLoader(DecodePolicy(), preprocessing, "fast", scale)(data, "x.jpg")
        for scale in (scale_in_numpy, scale_in_torch)
    ]
    np.testing.assert_array_equal(loaded[0].pixels, loaded[1].pixels)
    assert loaded[0].phash == loaded[1].phash


def calls(monkeypatch, *, with_torch):
    """Which way each image goes; PyTorch is hidden unless ``with_torch``."""
    seen = []
    for name in ("scale_in_numpy", "scale_in_torch"):
        monkeypatch.setattr(
            resample_module,
            name,
            lambda pixels, size, mode, name=name: seen.append(name.removeprefix("scale_in_")),
        )
    if not with_torch:
        monkeypatch.setattr(resample_module, "sys", type("Sys", (), {"modules": {}}))
    return seen


class Immediate:
    """A thread that has ended when it has started; PyTorch is there in these tests."""

    def __init__(self, target):
        self.start, self.is_alive = lambda: None, lambda: False


def test_pytorch_is_taken_where_it_is_there(monkeypatch):
    seen = calls(monkeypatch, with_torch=True)
    Scaler(1)(noise(0, 20, 20), (10, 10), "bilinear")
    assert seen == ["torch"]


@pytest.mark.parametrize(
    ("images", "pixels", "expected"),
    [
        (1, 1200, ["numpy"] * 4),
        (100_000, 1200, ["numpy", "torch", "torch", "torch"]),  # many: at once
        (3, 600, ["numpy", "numpy", "numpy", "torch"]),  # as soon as so much has been scaled
    ],
)
def test_pytorch_is_imported_once_it_pays(monkeypatch, images, pixels, expected):
    monkeypatch.setattr(resample_module, "_NUMPY_PIXELS", pixels)
    monkeypatch.setattr(threading, "Thread", Immediate)
    seen = calls(monkeypatch, with_torch=False)
    scaler = Scaler(images)
    for _ in range(4):
        scaler(noise(0, 20, 15), (10, 10), "bilinear")  # 300 pixels
    assert seen == expected


def test_pytorch_gets_its_threads_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with Scaler(), ThreadPoolExecutor(1) as pool:
        assert torch.get_num_threads() == 1
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 3
    Scaler()(noise(0, 20, 20), (10, 10), "bilinear")
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_an_extraction_keeps_pytorch_to_one_thread(tmp_path):
    write_photos(tmp_path / "photos", 2)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    embedkit.extract(
        tmp_path / "photos", tmp_path / "x.h5", backbone="tiny", device="cpu",
        progress=lambda p: seen.append((p.stage, torch.get_num_threads())),
    )  # fmt: skip
    assert {threads for stage, threads in seen if stage == "embedding"} == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


SWITCH = """
import sys
import time
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from embedkit.decode import resize
resize._NUMPY_PIXELS = 4 * 40 * 30
used, in_torch = [], resize.scale_in_torch
def scale_in_torch(*args):
    used.append(1)
    return in_torch(*args)
resize.scale_in_torch = scale_in_torch
pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
with resize.Scaler(8) as scale, ThreadPoolExecutor(2) as pool:
    first = scale(pixels, (17, 13), "bicubic")
    assert "torch" not in sys.modules
    start, slowest, found, torch = time.monotonic(), 0, [], None
    while torch is None and time.monotonic() - start < 100:
        asked = time.monotonic()
        found += pool.map(lambda _: scale(pixels, (17, 13), "bicubic"), range(8))
        slowest = max(slowest, time.monotonic() - asked)
        torch = sys.modules.get("torch") if used else None
        time.sleep(0.05)  # the import needs the interpreter's lock too
    assert slowest < (time.monotonic() - start) / 2  # no image waits for the import
    assert torch.get_num_threads() == 1
assert all((image == first).all() for image in found)
assert torch.get_num_threads() == 2, torch.get_num_threads()
"""


def test_the_change_to_pytorch_in_the_midst_of_a_run_changes_nothing(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    subprocess.run([sys.executable, "-c", SWITCH], check=True)
