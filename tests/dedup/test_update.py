"""A folder of duplicates brought up to date, against a search from scratch."""

from __future__ import annotations

import json
import shutil

import pytest
from images import draw_photo

from embedkit import find_duplicates, read_duplicates, update_duplicates, write_duplicates
from embedkit.errors import DedupError
from embedkit.extraction.extract import extract

pytest.importorskip("cv2")


def save(folder, name, seed, **options):
    picture = draw_photo(seed)
    if options.get("crop"):
        picture = picture.crop((20, 15, 300, 225))
    picture.save(folder / name, quality=options.get("quality", 92))


def embed(folder, store, **options):
    extract(folder, store, backbone="tiny", device="cpu", **options)


def pairs_of(found) -> dict:
    """Scores by the ids of both images."""
    rows = found.row()
    ids = {
        (own, row): name.rpartition("/")[2]
        for own, row, name in zip(
            found.is_of_store().tolist(), rows.tolist(), found.images.ids, strict=True
        )
    }
    mine, theirs = True, found.against is None
    pairs = found.pairs
    return {
        (ids[mine, first], ids[theirs, second]): score
        for first, second, score in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.score.tolist(), strict=True
        )
    }


@pytest.fixture
def world(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(8):
        save(photos, f"{seed}.jpg", seed)
    save(photos, "0-small.jpg", 0, quality=60)
    save(photos, "1-crop.jpg", 1, crop=True)
    save(photos, "2-small.jpg", 2, quality=60)
    embed(photos, tmp_path / "a.h5")
    return photos, tmp_path / "a.h5", tmp_path / "duplicates"


def change(photos, store):
    """Adds, changes and removes images."""
    save(photos, "0-crop.jpg", 0, crop=True)  # before the others by name
    save(photos, "9.jpg", 99)
    shutil.copy(photos / "3.jpg", photos / "3-same.jpg")
    (photos / "2-small.jpg").unlink()
    save(photos, "1-crop.jpg", 50)  # another image now
    embed(photos, store, update=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"verify": True},
        {"verify": False, "calibration": "cosine", "threshold": 0.9},
        {"verify": False, "threshold": 0.1},
    ],
    ids=["verified", "cosine", "scored"],
)
def test_only_new_images_are_searched(world, settings) -> None:
    photos, store, folder = world
    before = find_duplicates(store, **settings)
    write_duplicates(before, folder, report=False)
    change(photos, store)
    found = update_duplicates(folder)
    scratch = find_duplicates(store, **settings)
    old, now, full = pairs_of(before), pairs_of(found), pairs_of(scratch)
    gone, new = {"2-small.jpg"}, {"0-crop.jpg", "9.jpg", "3-same.jpg", "1-crop.jpg"}
    kept = {pair: score for pair, score in old.items() if not set(pair) & (gone | new)}
    assert {pair: now[pair] for pair in kept} == kept
    assert {pair for pair in now if set(pair) & new} == {pair for pair in full if set(pair) & new}
    assert not any(set(pair) & gone for pair in now)
    assert ("3-same.jpg", "3.jpg") in now
    assert len(now) == len(kept) + sum(bool(set(pair) & new) for pair in now)
    if settings["verify"]:
        assert set(now) == set(full)
        assert {"0.jpg", "0-small.jpg", "0-crop.jpg"} == {
            name.rpartition("/")[2]
            for name, group in zip(found.images.ids, found.groups.group.tolist(), strict=True)
            if group == found.groups.group[[n.endswith("/0.jpg") for n in found.images.ids]][0]
        }
    write_duplicates(found, folder, overwrite=True, report=False)
    shutil.rmtree(photos)  # nothing is new now, so that no image is read
    again = update_duplicates(folder)
    assert pairs_of(again) == now
    assert read_duplicates(folder).searched is not None


def test_equal_files_stay_together_without_the_first_of_them(world) -> None:
    photos, store, folder = world
    for name in ("5-a.jpg", "5-b.jpg"):
        shutil.copy(photos / "5.jpg", photos / name)
    embed(photos, store, update=True)
    write_duplicates(find_duplicates(store, verify=False), folder, report=False)
    (photos / "5.jpg").rename(photos / "z.jpg")
    (photos / "5-a.jpg").unlink()
    embed(photos, store, update=True)
    now = pairs_of(update_duplicates(folder))
    assert ("5-b.jpg", "z.jpg") in now


def test_between_two_stores(world, tmp_path) -> None:
    photos, store, folder = world
    others = tmp_path / "others"
    others.mkdir()
    save(others, "a.jpg", 3, crop=True)
    save(others, "b.jpg", 70)
    embed(others, tmp_path / "b.h5")
    write_duplicates(find_duplicates(store, against=tmp_path / "b.h5", verify=True), folder)
    save(others, "0.jpg", 4, quality=50)
    save(photos, "z.jpg", 70, quality=50)
    embed(others, tmp_path / "b.h5", update=True)
    embed(photos, store, update=True)
    now = pairs_of(update_duplicates(folder))
    assert set(now) == {("3.jpg", "a.jpg"), ("4.jpg", "0.jpg"), ("z.jpg", "b.jpg")}


def test_what_cannot_be_updated(world) -> None:
    _, store, folder = world
    write_duplicates(find_duplicates(store, verify=False), folder, report=False)
    content = json.loads((folder / "summary.json").read_text())
    assert "searched.u8" in content["files"]
    (folder / "searched.u8").write_bytes(b"damaged!")
    with pytest.raises(DedupError, match=r"searched\.u8: was changed or damaged"):
        update_duplicates(folder)
