from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
import scipy.fft
from images import draw_photo, encode
from PIL import Image

from embedkit.decode.phash import perceptual_hash, thumbnail


def _hash(image: Image.Image) -> int:
    return perceptual_hash(thumbnail(image.convert("RGB")))


def _distance(left: Image.Image, right: Image.Image) -> int:
    return (_hash(left) ^ _hash(right)).bit_count()


@pytest.mark.parametrize("size", [(32, 32), (9, 7), (1, 180), (31, 33), (320, 240), (640, 200)])
def test_is_the_definition(size: tuple[int, int]) -> None:
    for seed in range(10):
        small = np.asarray(draw_photo(seed, size).resize((32, 32), Image.Resampling.BICUBIC))
        gray = small.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
        low = scipy.fft.dctn(gray, type=2)[:8, :8].round(6)
        bits = (low > np.median(low)).ravel()
        assert _hash(draw_photo(seed, size)) == int("".join("01"[int(bit)] for bit in bits), 2)


@pytest.mark.parametrize("size", [(191, 191), (64, 100), (500, 375), (1000, 1500)])
def test_is_near_imagehash(size: tuple[int, int]) -> None:
    for seed in range(20):
        image = draw_photo(seed, size)
        reference = int(str(imagehash.phash(image)), 16)
        assert (_hash(image) ^ reference).bit_count() <= 6


@pytest.mark.parametrize("level", [0, 1, 77, 255])
@pytest.mark.parametrize("size", [(1, 1), (50, 50), (500, 375)])
def test_a_flat_image_has_one_definite_hash(level: int, size: tuple[int, int]) -> None:
    expected = 0 if level == 0 else 1 << 63
    assert _hash(Image.new("RGB", size, (level, level, level))) == expected


def test_is_an_unsigned_64_bit_integer() -> None:
    value = _hash(draw_photo(3))
    assert type(value) is int
    assert 0 <= value < 2**64


def test_copies_are_near_and_others_far() -> None:
    photos = [draw_photo(seed, (400, 300)) for seed in range(12)]
    for photo in photos:
        copy = Image.open(io.BytesIO(encode(photo.resize((200, 150)), "JPEG", quality=60)))
        assert _distance(photo, copy) <= 4
    assert min(_distance(a, b) for i, a in enumerate(photos) for b in photos[:i]) > 10
