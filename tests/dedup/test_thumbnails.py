"""Thumbnails laid over each other, and what they say of copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from images import draw_photo
from PIL import Image

import embedkit
from embedkit.dedup import find_pairs
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring import thumbnail_model
from embedkit.dedup.scoring.calibration import guessed_calibration
from embedkit.dedup.scoring.overlay import Distances, SmallPictures, overlay_distances
from embedkit.dedup.scoring.thumbnail_model import (
    threshold_for,
    thumbnail_distances,
    thumbnail_odds,
    turn_of_view,
)

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


def alike(*values):
    """The same distances of levels and of slopes."""
    return Distances(np.array(values, np.float32), np.array(values, np.float32))


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
    assert (found.levels < 0.04).all()
    assert (found.slopes < 0.2).all()
    back = distances(edited, photos)
    np.testing.assert_allclose(found.levels, back.levels, atol=1e-3)


def test_other_photographs_do_not(photos):
    first, second = np.triu_indices(len(photos), 1)
    found = overlay_distances(pictures(photos), first, second)
    assert (found.levels > 0.06).all()
    assert (found.slopes > 0.3).all()


def test_slopes_tell_what_levels_do_not():
    """Two small things on two skies: nearly all that there is to see is the sky."""
    sky = np.linspace(90, 220, SIZE[1])[:, None] * np.ones(SIZE[0])
    scenes = []
    for top, left in ((60, 60), (220, 300)):
        scene = sky.copy()
        scene[top : top + 40, left : left + 60] -= 60
        scenes.append(Image.fromarray(scene.astype(np.uint8)))
    found = distances(scenes[:1], scenes[1:])
    assert found.levels[0] < 0.03
    assert found.slopes[0] > 0.2


def test_a_shifted_detail_is_no_copy(photos):
    """The same background with the thing in front elsewhere, as of two frames."""
    front = cropped(photos[1]).resize((150, 130))
    frames = []
    for left in (60, 130):
        frame = photos[0].copy()
        frame.paste(front, (left, 90))
        frames.append(frame)
    assert distances(frames[:1], frames[1:]).levels[0] > 0.02


def test_even_images_say_nothing():
    even = [Image.new("RGB", SIZE, color) for color in ("white", "white", "gray")]
    found = overlay_distances(pictures(even), np.array([0, 0]), np.array([1, 2]))
    assert (found.levels > 0.9).all()
    assert (found.slopes > 0.9).all()


def test_nothing_to_compare():
    none = np.empty(0, np.int64)
    assert overlay_distances(pictures([Image.new("RGB", SIZE)]), none, none).levels.shape == (0,)


def test_agreeing_thumbnails_outweigh_embeddings():
    odds = np.array([-3.0, 6.0, *np.full(200, -9.0)])
    found = thumbnail_odds(odds, alike(0.001, 0.5, *np.ones(200)))
    assert found[0] > 4  # a crop
    assert found[1] < found[0]
    assert (found[2:] < -5).all()


def test_the_share_of_copies_is_that_of_the_store():
    """The same pair among many copies, and among none."""
    pair, other = (0.5, 0.03), (-9.0, 1.0)
    many, none = (
        thumbnail_odds(np.array([pair[0], *np.full(300, odds)]),
                       alike(pair[1], *np.full(300, distance)))[0]
        for odds, distance in ((8.0, 0.001), other)
    )  # fmt: skip
    assert many > none + 3


def test_pairs_that_were_not_looked_at_count_in_that_share():
    """Of 5000 candidates only the likeliest were looked at: they don't look like half copies."""
    odds = np.array([*np.full(300, -3.0), *np.full(4700, -7.0)])
    looked_at = [0.002] * 3 + [1.0] * 297
    found = thumbnail_odds(odds, alike(*looked_at, *np.full(4700, np.nan)))
    assert np.isnan(found[300:]).all()
    assert (found[:3] > 2).all()
    assert (found[3:300] < -4).all()


def test_thresholds():
    assert threshold_for(0.99) > threshold_for(0.9)
    assert threshold_for(1.0) == threshold_for(0.999)


def test_turns_of_views():
    names = ("90", "180", "mirrored-0", "mirrored-270")
    assert [turn_of_view(name) for name in names] == [1, 2, 4, 7]


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory):
    """Of photographs and their crops."""
    folder = tmp_path_factory.mktemp("thumbnails")
    (folder / "images").mkdir()
    for number, photo in enumerate(photos):
        photo.save(folder / "images" / f"{number}.png")
        cropped(photo).save(folder / "images" / f"{number}-crop.png")
    embedkit.extract(folder / "images", folder / "s.h5", backbone="tiny", labels="none")
    return folder / "s.h5"


def all_pairs(store, **more):
    """The score of every pair by the names of its images."""
    config = DedupConfig(threshold=0, min_cosine=-1, max_hamming=64, candidates_per_image=100)
    found = find_pairs(store, config, **more)
    with embedkit.EmbeddingStore.open(store) as opened:
        names = [Path(name).stem for name in opened.ids]
    scores = {
        frozenset((names[a], names[b])): score
        for a, b, score in zip(found.first, found.second, found.score, strict=True)
    }
    return scores, found


def test_crops_score_above_all_others_by_thumbnails(store, photos):
    scores, found = all_pairs(store)
    assert found.info.calibration.endswith(", thumbnails")
    crops = {frozenset((str(number), f"{number}-crop")) for number in range(len(photos))}
    assert min(scores[pair] for pair in crops) > max(
        score for pair, score in scores.items() if pair not in crops
    )


def test_views_are_compared_turned(photos, tmp_path):
    """The first image as its view was: mirrored or not, then turned to the left by quarters."""
    turns = {"90": Image.Transpose.ROTATE_90, "270": Image.Transpose.ROTATE_270,
             "mirrored-90": Image.Transpose.TRANSPOSE}  # fmt: skip
    (tmp_path / "images").mkdir()
    photos[0].save(tmp_path / "images" / "0.png")
    for number, turn in enumerate(turns.values(), 1):
        photos[0].transpose(turn).save(tmp_path / "images" / f"{number}.png")
    embedkit.extract(tmp_path / "images", tmp_path / "s.h5", backbone="tiny", labels="none")
    codes = np.array([turn_of_view(name) for name in turns])
    first, second = np.zeros(3, np.int64), np.arange(1, 4)
    with embedkit.EmbeddingStore.open(tmp_path / "s.h5") as opened:
        side = DedupInput(opened)
        turned = thumbnail_distances(side, None, first, second, np.zeros(3), codes)
        plain = thumbnail_distances(side, None, first, second, np.zeros(3), np.zeros_like(codes))
    assert (turned.levels < 0.01).all()
    assert (plain.levels > 0.06).all()


def test_a_calibration_of_ones_own_decides_alone(store):
    with embedkit.EmbeddingStore.open(store) as opened:
        own = guessed_calibration(opened.meta)
    found = find_pairs(store, DedupConfig(threshold=0, calibration=own))
    assert found.info.calibration == own.name


def test_stores_without_thumbnails_go_by_embeddings(store, tmp_path):
    source = store.parent / "images"
    embedkit.extract(source, tmp_path / "s.h5", backbone="tiny", labels="none", thumbnails=False)
    _, found = all_pairs(tmp_path / "s.h5")
    assert "thumbnails" not in found.info.calibration


def test_unknown_thumbnails_say_nothing(store, tmp_path, monkeypatch):
    """Rows that an update kept from a store without thumbnails have zeros."""
    real = embedkit.EmbeddingStore.thumbnails

    def thumbnails(self, rows):
        found = real(self, rows)
        found[rows == 0] = 0
        return found

    embedkit.extract(
        store.parent / "images", tmp_path / "s.h5", backbone="tiny", labels="none", thumbnails=False
    )
    alone, found = all_pairs(tmp_path / "s.h5")
    monkeypatch.setattr(embedkit.EmbeddingStore, "thumbnails", thumbnails)
    scores, other = all_pairs(store)
    mine = found.first == 0
    assert mine.any()
    np.testing.assert_array_equal(other.score[mine], found.score[mine])
    assert scores != alone


def test_too_many_likely_pairs_are_left_to_the_embeddings(store, monkeypatch):
    monkeypatch.setattr(thumbnail_model, "_MOST_LAID", 2)
    odds, rows = np.array([-1.0, 5.0, -9.0, 3.0]), np.arange(4)
    with embedkit.EmbeddingStore.open(store) as opened:
        found = thumbnail_distances(DedupInput(opened), None, rows, rows + 1, odds, rows * 0).levels
    assert np.isnan(found[0])
    assert found[2] == 1
    assert not np.isnan(found[[1, 3]]).any()
