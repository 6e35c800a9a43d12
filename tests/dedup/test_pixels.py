"""Searches that look at the images: views, verification, calibration, new images."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image
from stores import make_meta

import embedkit
from embedkit.dedup.api import find_duplicates
from embedkit.dedup.check import check_duplicates
from embedkit.dedup.scoring.calibrate import calibrate
from embedkit.dedup.scoring.calibration import Calibration, default_calibration, guessed_calibration
from embedkit.errors import DecodeError, EmbedkitError, SourceError, StoreError
from embedkit.extraction.augmented_views import embed_views
from embedkit.extraction.source_images import OriginalImages, hashes_of
from embedkit.index import Index
from embedkit.store import EmbeddingStore

SIZE = (320, 320)  # square, so that a turned image is cropped as the image is


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn photos, one of them mirrored, another one turned, a third one twice."""
    path = tmp_path_factory.mktemp("images")
    for number in range(12):
        draw_photo(number, SIZE).save(path / f"{number:02d}.png")
    draw_photo(1, SIZE).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path / "mirrored.png")
    draw_photo(2, SIZE).transpose(Image.Transpose.ROTATE_90).save(path / "turned.png")
    shutil.copy(path / "03.png", path / "twice.png")
    return path


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "photos.h5"
    embedkit.extract(folder, path, backbone="tiny", weights="random", labels="none")
    return path


def named(found: object) -> set[frozenset[str]]:
    """The pairs of a search, by the images' names."""
    ids = [Path(name).stem for name in found.images.ids]
    place = {int(node): n for n, node in enumerate(found.groups.node)}
    return {
        frozenset((ids[place[int(i)]], ids[place[int(j)]]))
        for i, j in zip(found.pairs.first, found.pairs.second, strict=True)
    }


def test_views_are_the_embeddings_of_turned_images(
    folder: Path, store: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    turned.mkdir()
    for file in folder.iterdir():
        image = Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.transpose(Image.Transpose.ROTATE_90).save(turned / file.name)
    expected = tmp_path / "turned.h5"
    embedkit.extract(turned, expected, backbone="tiny", weights="random", labels="none")
    with EmbeddingStore.open(store) as opened, EmbeddingStore.open(expected) as other:
        images = OriginalImages.by_ids(opened.ids, [Path()])
        with images:
            views = embed_views(opened, images.read, tmp_path, flip=True, rotate=True)
        assert len(views) == 7
        rows = np.array(other.embeddings[:], np.float64)
        found = np.array(views["mirrored-90"], np.float64)
    cosines = (rows * found).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999


def test_mirrored_and_turned_copies_are_found_when_asked(store: Path) -> None:
    mirrored, turned = frozenset(("01", "mirrored")), frozenset(("02", "turned"))
    options = {"threshold": 0.9, "min_cosine": 0.999, "max_hamming": 0, "verify": False}
    plain = named(find_duplicates(store, **options))
    assert not plain & {mirrored, turned}
    assert mirrored in named(find_duplicates(store, flip=True, **options))
    assert turned in named(find_duplicates(store, rotate=True, **options))


def test_images_that_are_gone_have_no_views(folder: Path, store: Path, tmp_path: Path) -> None:
    def encoded(name: str) -> bytes:
        if name.endswith("01.png"):
            raise DecodeError(name, "is gone")
        return Path(name).read_bytes()

    with EmbeddingStore.open(store) as opened:
        views = embed_views(opened, encoded, tmp_path, flip=True, rotate=False)
        gone = [Path(name).name for name in opened.ids].index("01.png")
    (view,) = views.values()
    assert not view[gone].any()
    assert view[gone + 1].any()


def test_verification_tells_how_a_copy_was_made(store: Path) -> None:
    found = find_duplicates(store, verify=True, flip=True, threshold=0.5, min_cosine=0.9)
    ids = [Path(name).stem for name in found.images.ids]
    names = dict(zip(found.groups.node.tolist(), ids, strict=True))
    for n in range(len(found.pairs)):
        pair = {names[int(found.pairs.first[n])], names[int(found.pairs.second[n])]}
        if pair == {"01", "mirrored"}:
            assert found.pairs.verified[n] == 1
            assert found.pairs.how[n]["flip"] is True
            break
    else:
        pytest.fail("the mirrored copy wasn't found")


def test_images_that_were_moved(folder: Path, store: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    with EmbeddingStore.open(store) as opened:
        ids = list(opened.ids)
    with OriginalImages.of_source(moved, ids) as images:
        assert images.read(ids[4]) == (moved / Path(ids[4]).name).read_bytes()
        assert images(ids[4]).shape == (320, 320, 3)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.png").write_bytes(encode(draw_photo(50), "PNG"))
    with pytest.raises(SourceError, match="none of the store's images"):
        OriginalImages.of_source(tmp_path / "others", ids)


def test_images_of_several_folders_that_were_moved(tmp_path: Path) -> None:
    def write(where: str, count: int, seed: int) -> Path:
        for number in range(count):
            path = tmp_path / where / "class" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(draw_photo(seed + number, (8, 8)), "PNG"))
        return tmp_path / where

    ids = [f"photos/class/{number}.png" for number in range(5)]
    larger, smaller = write("new/renamed", 5, 0), write("new/other", 3, 10)
    for images in ([larger, smaller], [smaller, larger], tmp_path / "new", larger):
        with OriginalImages.of_source(images, ids) as found:
            assert found.read(ids[4]) == (larger / "class/4.png").read_bytes()
            assert found.read(ids[0]) == (larger / "class/0.png").read_bytes()
    same = write("new/again", 5, 20)
    hashes = {name: sha256((larger / name[7:]).read_bytes()).digest() for name in ids}
    with OriginalImages.of_source([same, larger], ids, hashes=hashes) as found:
        assert found.read(ids[0]) == (larger / "class/0.png").read_bytes()
    with pytest.raises(SourceError, match=r"could both be where .*photos/class/0\.png"):
        OriginalImages.of_source([larger, same], ids)
    (tmp_path / "kept").mkdir()
    kept = same.rename(tmp_path / "kept" / "photos")  # by its name it is known again
    with OriginalImages.of_source([larger, kept], ids) as found:
        assert found.read(ids[0]) == (kept / "class/0.png").read_bytes()
    with OriginalImages.of_source([larger, kept], ids[:1]) as found:
        assert found.read(ids[0]) == (kept / "class/0.png").read_bytes()


def test_an_image_of_other_bytes_is_not_looked_at(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for path in (mine, other):
        path.mkdir()
    shutil.copy(folder / "01.png", mine / "a.png")
    shutil.copy(folder / "mirrored.png", other / "a.png")
    stores = [tmp_path / "mine.h5", tmp_path / "other.h5"]
    for path, store in zip((mine, other), stores, strict=True):
        embedkit.extract(path, store, backbone="tiny", weights="random", labels="none")
    options = {"verify": True, "against": stores[1], "threshold": 0.0, "min_cosine": -1.0}
    assert find_duplicates(stores[0], images=[mine, other], **options).pairs.verified.tolist() == [
        1
    ]
    moved = mine.rename(tmp_path / "moved")
    # The other store's image has the same name, and isn't the one that lies there.
    found = find_duplicates(stores[0], images=[moved], **options)
    assert not len(found.pairs)
    assert "1 of 1 pairs can't be verified" in caplog.text
    with EmbeddingStore.open(stores[1]) as opened:
        images = OriginalImages.of_source(moved, opened.ids, hashes=hashes_of(opened))
    with images, pytest.raises(DecodeError, match="isn't the image that was embedded"):
        images.read(str(other / "a.png"))


def test_two_stores_with_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, side in enumerate(("mine", "theirs")):
        (tmp_path / side / "photos").mkdir(parents=True)
        for image in range(4):
            picture = encode(draw_photo(10 * number + image), "PNG")
            (tmp_path / side / "photos" / f"{image}.png").write_bytes(picture)
        monkeypatch.chdir(tmp_path / side)
        embedkit.extract("photos", "../" + side + ".h5", backbone="tiny", weights="random")
    monkeypatch.chdir(tmp_path / "mine")
    options = {"verify": True, "threshold": 0.0, "min_cosine": -1.0}
    folders = [tmp_path / "mine/photos", tmp_path / "theirs/photos"]
    # Each store remembers where its ids lead.
    found = find_duplicates("../mine.h5", against="../theirs.h5", **options)
    assert (found.pairs.verified == 0).all()
    for images in (folders, folders[::-1]):
        found = find_duplicates("../mine.h5", against="../theirs.h5", images=images, **options)
        assert len(found.pairs) == 16
        assert (found.pairs.verified == 0).all()
    checked = check_duplicates("../mine.h5", folders[1], verify=True)
    assert not checked.matches
    checked = check_duplicates("../mine.h5", folders[0], verify=True)
    assert [match.id for match in checked.matches] == [f"photos/{n}.png" for n in range(4)]


def test_new_images_against_an_index(folder: Path, store: Path, tmp_path: Path) -> None:
    index = Index.build(store, tmp_path / "photos.index")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(folder / "05.png", new / "same.png")
    draw_photo(7, SIZE).resize((120, 120)).save(new / "small.png")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(new / "other.png")
    (new / "broken.png").write_bytes(b"no image")
    for known, stores in ((index, None), (index, [store]), (store, None)):
        found = check_duplicates(known, new, stores=stores, threshold=0.99)
        best = {}
        for match in found.matches:
            best.setdefault(Path(match.image).stem, match)
        assert Path(best["same"].id).stem == "05"
        assert (best["same"].exact, best["same"].score) == (True, 1.0)
        assert Path(best["small"].id).stem == "07"
        assert "other" not in best
        assert [Path(one.id).name for one in found.failures] == ["broken.png"]
        assert len(found.images) == 3


@pytest.mark.parametrize(
    "bad",
    [{"threshold": 2}, {"threshold": float("nan")}, {"precision": 0.0}, {"max_hamming": 65}],
)
def test_bad_arguments_are_refused_before_the_work(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        check_duplicates(tmp_path / "none.h5", tmp_path, **bad)


def test_an_index_that_was_changed(folder: Path, store: Path, tmp_path: Path) -> None:
    index = Index.build(store, tmp_path / "photos.index")
    with EmbeddingStore.open(store) as opened:
        unlike = next(name for name in opened.ids if Path(name).stem == "09")
    Index.remove(index, [unlike])
    for name, matches in (("05", {"05"}), ("09", set())):
        found = check_duplicates(index, folder / f"{name}.png", threshold=0.99)
        assert {Path(match.id).stem for match in found.matches} & {name} == matches


def test_an_index_without_its_store(store: Path, tmp_path: Path) -> None:
    moved = shutil.copy(store, tmp_path / "other.h5")
    index = Index.build(moved, tmp_path / "photos.index")
    Path(moved).unlink()
    with pytest.raises(StoreError, match="stores="):
        check_duplicates(index, tmp_path)


def test_new_images_are_looked_at(folder: Path, store: Path, tmp_path: Path) -> None:
    draw_photo(4, SIZE).crop((40, 40, 300, 300)).save(tmp_path / "part.png")
    found = check_duplicates(store, tmp_path / "part.png", verify=True, threshold=0.0)
    match = next(m for m in found.matches if Path(m.id).stem == "04")
    assert match.verified
    np.testing.assert_allclose(match.how["crop"], [40 / 320, 40 / 320, 300 / 320, 300 / 320],
                               atol=0.03)  # fmt: skip


def test_a_calibration_is_made_saved_and_used(folder: Path, store: Path, tmp_path: Path) -> None:
    report = calibrate(store, folder, originals=6)
    assert report.copies == 6 * 12
    assert 0 < report.embedding_curve.recall_there <= report.verified_curve.recall_there <= 1
    path = tmp_path / "calibration.json"
    report.calibration.save(path)
    loaded = Calibration.load(path)
    assert loaded == report.calibration
    low, high = (loaded.threshold_for(p) for p in (0.5, 0.99))
    assert low <= high
    found = find_duplicates(store, calibration=loaded, verify=False)
    assert frozenset(("03", "twice")) in named(found)
    assert found.pairs.info.calibration == loaded.name
    assert found.settings["calibration"] == loaded.name
    with pytest.raises(ValueError, match="at least 4"):
        calibrate(store, folder, originals=3)
    with pytest.raises(ValueError, match="precision"):
        loaded.threshold_for(0.0)
    path.write_text('{"format": "embedkit-calibration-1"}')
    with pytest.raises(EmbedkitError, match="is no calibration"):
        Calibration.load(path)


def test_what_is_likelier_not_a_copy_is_none() -> None:
    config = guessed_calibration(make_meta()).to_config()
    config["thresholds"] = [[0.5, 0.01], [0.99, 0.93, 0.11]]  # older files have one of pixels, too
    calibration = Calibration.from_config(config)
    for precision, least in ((0.5, 0.5), (0.9, 0.93), (0.99, 0.93)):
        assert calibration.threshold_for(precision) == least


def test_the_calibration_that_comes_with_embedkit() -> None:
    folder = resources.files("embedkit.dedup.scoring") / "calibrations"
    shipped = [Calibration.from_config(json.loads(f.read_text("utf-8"))) for f in folder.iterdir()]
    assert [one.backbone for one in shipped] == ["efficientnet_lite0"]
    (one,) = shipped
    meta = make_meta(
        backbone=one.backbone, weights_fingerprint=one.weights_fingerprint, pooling=one.pooling
    )
    assert default_calibration(meta) == one
    assert default_calibration(make_meta()) is None
    same = {"cosine": 0.97, "whitened": 0.95, "normalised": 0.5, "hamming": 1.0}
    other = {"cosine": 0.4, "whitened": 0.1, "normalised": -0.1, "hamming": 30.0}
    odds = one.embedding_model.log_odds(
        {name: np.array([same[name], other[name]]) for name in same}
    )
    odds += one.prior(1_000_000)
    assert odds[0] > 0 > odds[1]
    assert one.prior(one.rows) == 0
