from __future__ import annotations

import io

import imagehash
import pytest
from images import draw_photo, encode
from PIL import Image

from embedkit.phash import perceptual_hash


def _reference(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def _distance(left: Image.Image, right: Image.Image) -> int:
    return (perceptual_hash(left) ^ perceptual_hash(right)).bit_count()


@pytest.mark.parametrize(
    "size", [(191, 191), (64, 100), (32, 32), (9, 7), (1, 1), (1, 180), (31, 33)]
)
def test_equals_imagehash_below_the_block_averaging(size: tuple[int, int]) -> None:
    for seed in range(25):
        image = draw_photo(seed, size)
        assert perceptual_hash(image) == _reference(image)


@pytest.mark.parametrize("size", [(192, 192), (320, 240), (500, 375), (640, 200), (1000, 1500)])
def test_equals_imagehash_after_the_block_averaging(size: tuple[int, int]) -> None:
    blocks = tuple(max(1, int(side / 32 / 3.0)) for side in size)
    for seed in range(5):
        gray = draw_photo(seed, size).convert("L")
        small = gray.reduce(blocks)
        box = (0.0, 0.0, size[0] / blocks[0], size[1] / blocks[1])
        small = small.resize((32, 32), Image.Resampling.LANCZOS, box=box)
        assert perceptual_hash(gray) == _reference(small)


def test_is_near_imagehash_for_large_photos() -> None:
    for seed in range(20):
        image = draw_photo(seed, (500, 375))
        assert (perceptual_hash(image) ^ _reference(image)).bit_count() <= 4


@pytest.mark.parametrize("level", [0, 1, 77, 255])
@pytest.mark.parametrize("size", [(1, 1), (50, 50), (500, 375)])
def test_a_flat_image_has_one_definite_hash(level: int, size: tuple[int, int]) -> None:
    expected = 0 if level == 0 else 1 << 63
    assert perceptual_hash(Image.new("L", size, level)) == expected
    assert _reference(Image.new("L", size, level)) == expected


def test_is_an_unsigned_64_bit_integer_of_any_mode() -> None:
    photo = draw_photo(3)
    for mode in ("RGB", "L", "RGBA", "CMYK", "1", "P"):
        value = perceptual_hash(photo.convert(mode))
        assert type(value) is int
        assert 0 <= value < 2**64


def test_copies_are_near_and_others_far() -> None:
    photos = [draw_photo(seed, (400, 300)) for seed in range(12)]
    for photo in photos:
        copy = Image.open(io.BytesIO(encode(photo.resize((200, 150)), "JPEG", quality=60)))
        assert _distance(photo, copy) <= 4
    assert min(_distance(a, b) for i, a in enumerate(photos) for b in photos[:i]) > 10
