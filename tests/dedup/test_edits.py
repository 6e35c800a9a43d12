"""Edited copies are JPEG files, drawn by the seed, of every kind and for every size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from images import draw_photo
from PIL import Image

from embedkit.dedup.scoring.edits import EDITS, make_copy

KINDS = {
    "compression", "scale", "crop", "flip", "rotation", "colour", "blur", "noise", "text", "border",
    "overlay", "combination",
}  # fmt: skip


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.float64)


def test_every_kind_is_there() -> None:
    assert set(EDITS) == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_copy_is_a_jpeg_that_the_seed_draws(kind: str) -> None:
    image = draw_photo(0)
    one, again, other = (make_copy(image, kind, seed) for seed in (1, 1, 2))
    assert Image.open(io.BytesIO(one)).format == "JPEG"
    assert one == again
    assert one != other
    before = np.asarray(image, np.float64)
    after = pixels(one)
    assert after.shape != before.shape or np.abs(after - before).mean() > 0.5


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (640, 7)])
def test_odd_sizes(kind: str, size: tuple[int, int]) -> None:
    for seed in range(6):
        assert pixels(make_copy(Image.new("RGB", size), kind, seed)).size


def test_a_flip_is_a_flip() -> None:
    image = draw_photo(1)
    found = pixels(make_copy(image, "flip", 0))
    before = np.asarray(image, np.float64)
    assert min(np.abs(found - before[:, ::-1]).mean(), np.abs(found - before[::-1]).mean()) < 8


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="no kind of edit 'sepia'; there are compression"):
        make_copy(draw_photo(0), "sepia", 0)
