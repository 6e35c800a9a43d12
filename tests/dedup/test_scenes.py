"""Photographs of one scene: found when they are looked for, never taken for copies."""

from __future__ import annotations

import numpy as np
import pytest
from images import draw_photo
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("cv2")

from embedkit import (
    find_duplicates,
    make_plan,
    read_duplicates,
    update_duplicates,
    write_duplicates,
)
from embedkit.dedup.pairs import SAME_SCENE
from embedkit.errors import SourceError
from embedkit.extraction.extract import extract
from embedkit_cli.main import app

FRAMES = 5


def place(seed: int) -> Image.Image:
    """A place with fine details everywhere, larger than what one photograph shows."""
    size = (600, 450)
    coarse = np.random.default_rng(seed).normal(128, 50, (112, 150)).clip(0, 255).astype(np.uint8)
    grain = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(draw_photo(seed, size), int) + np.asarray(grain, int)[..., None] - 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def frame(seed: int, number: int) -> Image.Image:
    """A photograph of a place: the camera has moved a little, and a thing in the scene more."""
    scene, rng = place(seed), np.random.default_rng(100 * seed + number)
    left, top = 40 + rng.uniform(-20, 20), 40 + rng.uniform(-15, 15)
    scene.paste(place(70 + seed).resize((110, 140)), (60 + 80 * number, 160))
    scene = scene.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC)
    shot = scene.crop((int(left), int(top), int(left) + 500, int(top) + 375)).resize((480, 360))
    noise = rng.normal(0, 4, (360, 480, 3))
    return Image.fromarray((np.asarray(shot) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "photos"
    folder.mkdir()
    for number in range(FRAMES):
        frame(1, number).save(folder / f"burst-{number}.jpg", quality=92)
    for number in range(2):
        frame(2, number).save(folder / f"pair-{number}.jpg", quality=92)
    for seed in range(10, 18):
        place(seed).save(folder / f"other-{seed}.jpg", quality=92)
    frame(1, 0).resize((320, 240)).save(folder / "burst-0-small.jpg", quality=60)
    return folder


@pytest.fixture(scope="module")
def store(photos):
    path = photos.parent / "photos.h5"
    extract(photos, path, backbone="tiny", device="cpu", labels="none")
    return path


@pytest.fixture(scope="module")
def scenes(store):
    return find_duplicates(store, what="scenes")


def names(found) -> list[str]:
    """The names of all images in pairs, by their places."""
    return [name.rpartition("/")[2].removesuffix(".jpg") for name in found.images.ids]


def groups(found) -> list[set[str]]:
    return [
        {name for name, number in zip(names(found), found.groups.group, strict=True) if number == n}
        for n in range(len(found.groups))
    ]


def test_photographs_of_one_scene_are_groups(scenes) -> None:
    burst = {f"burst-{number}" for number in range(FRAMES)} | {"burst-0-small"}
    assert groups(scenes) == [burst, {"pair-0", "pair-1"}]


def test_copies_and_other_photographs_are_told_apart(scenes) -> None:
    rows = dict(zip(scenes.groups.node.tolist(), names(scenes), strict=True))
    pairs = scenes.pairs
    for first, second, verified in zip(pairs.first, pairs.second, pairs.verified, strict=True):
        ends = {rows[first].removesuffix("-small"), rows[second].removesuffix("-small")}
        assert (verified == SAME_SCENE) == (len(ends) == 2)


def test_it_is_measured_how_many_copies_are_candidates(tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):  # 66 pairs, of which some 20 are compared
        place(1).resize((600 - 20 * number, 450 - 15 * number)).save(folder / f"a{number}.jpg")
    for seed in range(30, 36):
        place(seed).save(folder / f"{seed}.jpg")
    store = tmp_path / "photos.h5"
    extract(folder, store, backbone="tiny", device="cpu", labels="none")
    assert find_duplicates(store, verify=True).pairs.info.candidate_recall == 1
    few = find_duplicates(store, verify=True, candidates_per_image=1, max_hamming=None)
    recall = few.pairs.info.candidate_recall
    assert recall is None or recall < 0.7
    assert find_duplicates(store, verify=False).pairs.info.candidate_recall is None


def test_only_copies_are_found_by_default(store) -> None:
    assert groups(find_duplicates(store)) == [{"burst-0", "burst-0-small"}]


def test_a_plan_removes_copies_only(scenes) -> None:
    plan = {row.id.rpartition("/")[2]: row for row in make_plan(scenes)}
    assert [name for name, row in plan.items() if row.action == "remove"] == ["burst-0-small.jpg"]
    assert plan["burst-0-small.jpg"].copy_of.endswith("burst-0.jpg")
    kept = {row.reason for row in plan.values() if row.action == "keep"}
    assert "another photograph of the same scene" in kept


def test_what_is_found_survives_files_and_updates(scenes, photos, store, tmp_path) -> None:
    write_duplicates(scenes, tmp_path / "scenes")
    again = read_duplicates(tmp_path / "scenes")
    np.testing.assert_array_equal(again.pairs.verified, scenes.pairs.verified)
    page = (tmp_path / "scenes" / "report.html").read_text()
    assert "another photograph of the same scene" in page
    frame(2, 2).save(photos / "pair-2.jpg", quality=92)
    try:
        extract(photos, tmp_path / "now.h5", backbone="tiny", device="cpu", labels="none")
        updated = update_duplicates(tmp_path / "scenes", store=tmp_path / "now.h5")
    finally:
        (photos / "pair-2.jpg").unlink()
    assert {"pair-0", "pair-1", "pair-2"} in groups(updated)


def test_scenes_need_the_pixels(store, tmp_path) -> None:
    with pytest.raises(ValueError, match="compares pixels"):
        find_duplicates(store, what="scenes", verify=False)
    with pytest.raises(ValueError, match="copies or scenes"):
        find_duplicates(store, what="bursts")
    with pytest.raises(ValueError, match="compares embeddings alone"):
        find_duplicates(store, what="scenes", calibration="cosine")
    (tmp_path / "elsewhere").mkdir()
    place(3).save(tmp_path / "elsewhere" / "3.jpg")
    with pytest.raises(SourceError):
        find_duplicates(store, what="scenes", images=[tmp_path / "elsewhere"])


def test_the_command_says_how_many_are_other_photographs(store, tmp_path) -> None:
    arguments = ["dedup", "find", str(store), "-o", str(tmp_path / "s"), "--what", "scenes"]
    done = CliRunner().invoke(app, [*arguments, "--no-report"])
    assert done.exit_code == 0, done.output
    assert "are other photographs of one scene" in done.output
