"""Thumbnails laid over each other, and what they say of copies."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedkit.dedup.scoring.overlay import SmallPictures, overlay_distances
from embedkit.dedup.scoring.thumbnail_model import (
    threshold_for,
    thumbnail_odds,
    turn_of_view,
)
from tests.images import draw_photo

SIZE = 480, 320


@pytest.fixture(scope="module")
def photos():
    return [draw_photo(seed, SIZE) for seed in range(6)]


def pictures(images):
    small = [one.convert("L").resize((32, 32), Image.Resampling.BICUBIC) for one in images]
    shapes = np.array([one.width / one.height for one in images], np.float32)
    return SmallPictures(np.stack([np.asarray(one) for one in small]), shapes)


def distances(first, second):
    at = np.arange(len(first))
    return overlay_distances(pictures([*first, *second]), at, at + len(first))


def cropped(photo):
    return photo.crop((111, 40, 401, 297))


def bordered(photo):
    out = Image.new("RGB", (photo.width + 90, photo.height + 130), "white")
    out.paste(photo, (30, 20))
    return out


EDITS = {
    "same": lambda photo: photo,
    "half size": lambda photo: photo.resize((240, 160)),
    "cropped": cropped,
    "small crop": lambda photo: photo.crop((200, 30, 400, 190)),
    "bordered": bordered,
    "mirrored": lambda photo: photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "crop, mirrored": lambda photo: cropped(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "stretched": lambda photo: photo.resize((400, 400)),
    "darker": lambda photo: photo.point(lambda level: level * 0.6 + 10),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_lie_over_their_originals(photos, edit):
    edited = [EDITS[edit](photo) for photo in photos]
    found = distances(photos, edited)
    assert (found < 0.04).all()
    np.testing.assert_allclose(found, distances(edited, photos), atol=1e-3)  # either way


def test_other_photographs_do_not(photos):
    first, second = np.triu_indices(len(photos), 1)
    found = overlay_distances(pictures(photos), first, second)
    assert (found > 0.06).all()


def test_a_shifted_detail_is_no_copy(photos):
    """The same background with the thing in front elsewhere, as of two frames."""
    front = cropped(photos[1]).resize((150, 130))
    frames = []
    for left in (60, 130):
        frame = photos[0].copy()
        frame.paste(front, (left, 90))
        frames.append(frame)
    assert distances(frames[:1], frames[1:])[0] > 0.02


def test_even_images_say_nothing():
    even = [Image.new("RGB", SIZE, color) for color in ("white", "white", "gray")]
    found = overlay_distances(pictures(even), np.array([0, 0]), np.array([1, 2]))
    assert (found > 0.9).all()


def test_nothing_to_compare():
    none = np.empty(0, np.int64)
    assert overlay_distances(pictures([Image.new("RGB", SIZE)]), none, none).shape == (0,)


def test_agreeing_thumbnails_outweigh_embeddings():
    odds = np.array([-3.0, 6.0, *np.full(200, -9.0)])
    found = thumbnail_odds(odds, np.array([0.001, 0.5, *np.ones(200)], np.float32))
    assert found[0] > 4  # a crop
    assert found[1] < found[0]
    assert (found[2:] < -5).all()


def test_the_share_of_copies_is_that_of_the_store():
    """The same pair among many copies, and among none."""
    pair, other = (0.5, 0.03), (-9.0, 1.0)
    many, none = (
        thumbnail_odds(np.array([pair[0], *np.full(300, odds)]),
                       np.array([pair[1], *np.full(300, distance)], np.float32))[0]
        for odds, distance in ((8.0, 0.001), other)
    )  # fmt: skip
    assert many > none + 3


def test_thresholds():
    assert threshold_for(0.99) > threshold_for(0.9)
    assert threshold_for(1.0) == threshold_for(0.999)


def test_turns_of_views():
    names = ("90", "180", "mirrored-0", "mirrored-270")
    assert [turn_of_view(name) for name in names] == [1, 2, 4, 7]
