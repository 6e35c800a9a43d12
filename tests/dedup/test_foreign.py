"""What each of two images shows that the other one doesn't."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from embedkit.dedup.verification.foreign import foreign_things
from embedkit.dedup.verification.laying import Laid
from embedkit.dedup.verification.windows import WINDOW, Windows

SHAPE = (120, 180)


def textured(seed):
    return np.random.default_rng(seed).uniform(20, 200, SHAPE).astype(np.float32)


def foreign(first, second):
    windows = Windows.of(first, second, WINDOW)
    inside = np.ones(SHAPE, bool)
    return foreign_things(
        Laid(first, second, inside), first, windows.correlation < 0.5, windows.correlation > 0.9
    )


def with_square(image, level, row, column, side=40):
    out = image.copy()
    out[row : row + side, column : column + side] = level
    return out


def test_equal_images_have_nothing_foreign():
    assert foreign(textured(0), textured(0)) == 0


def test_an_even_shape_in_one_image_is_laid_over_it():
    assert foreign(textured(0), with_square(textured(0), 230, 20, 20)) < 1
    assert foreign(with_square(textured(0), 230, 20, 20), textured(0)) < 1
    two = with_square(with_square(textured(0), 230, 20, 20), 10, 60, 120)
    assert foreign(textured(0), two) < 1


def test_an_even_shape_in_each_image_is_a_thing_that_moved():
    frames = (with_square(textured(0), 230, *place) for place in ((20, 20), (60, 120)))
    assert foreign(*frames) >= 1


def test_another_thing_in_one_place_is_foreign():
    part = slice(30, 90), slice(50, 130)
    second = textured(0)
    second[part] = np.linspace(130, 250, 80)[None]
    first = textured(0)
    first[part] = np.linspace(5, 120, 60)[:, None]
    assert foreign(first, second) >= 1


def test_thin_lines_and_a_veil_are_laid_over_it():
    lines = textured(0)
    lines[10:110:12] = 255
    lines[:, 10:170:12] = 0
    assert foreign(textured(0), lines) < 1
    veiled = textured(0)
    veiled[20:80, 40:120] = veiled[20:80, 40:120] * 0.5 + 125
    assert foreign(textured(0), veiled) < 1


def test_an_even_ground_that_text_covers_is_no_thing():
    ground = textured(0)
    ground[:70] = 128
    written = ground.copy()
    for column in range(10, 160, 24):
        written[20:50, column : column + 10] = 250
        written[22:48, column + 3 : column + 7] = 128
    assert foreign(ground, written) < 1


def ground():
    """Even but for a strip: on it nothing but the edge of a shape differs."""
    image = textured(0)
    image[:, 60:] = 150
    return image


@pytest.mark.parametrize("level", [110, 230])
def test_a_shape_at_another_place_on_even_ground_moved(level):
    first = with_square(ground(), level, 60, 120)
    assert foreign(first, with_square(ground(), level, 20, 70)) >= 1
    assert foreign(first, with_square(ground(), level, 20, 20)) >= 1
    assert foreign(ground(), with_square(first, level, 20, 70)) < 1  # both are laid over one image


def test_shapes_of_much_other_sizes_may_not_be_one_that_moved():
    first = with_square(ground(), 20, 60, 120)
    assert foreign(first, with_square(ground(), 20, 20, 70, side=16)) < 1
