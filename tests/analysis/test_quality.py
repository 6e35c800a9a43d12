"""Quality: drawn faults are found, in new stores and old ones, and written as stated."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
from images import draw_photo, encode
from PIL import Image, ImageEnhance, ImageFilter
from stores import write_store

import embedkit
from embedkit.analysis.quality import QualityThresholds, find_quality_issues, write_quality
from embedkit.analysis.quality.measures import MEASURES
from embedkit.errors import DedupError, SourceError, StoreError
from embedkit.retrieval.metadata import matching_rows
from embedkit.store import EmbeddingStore, verify
from embedkit.store.reader import ShardFile
from embedkit.store.writer import ShardContent, write_shard

SIZE = (400, 300)


def faulty(kind):
    photo = draw_photo(50, SIZE)
    if kind == "dark":
        return ImageEnhance.Brightness(photo).enhance(0.1)
    if kind == "bright":
        return Image.blend(photo, Image.new("RGB", SIZE, (255, 255, 255)), 0.9)
    if kind == "blurry":
        return photo.filter(ImageFilter.GaussianBlur(8))
    if kind == "low_information":
        plain = Image.new("RGB", SIZE, (90, 120, 60))
        plain.paste(photo.resize((40, 30)), (180, 130))
        return plain
    if kind == "gray":
        return photo.convert("L")
    if kind == "odd_size":
        return photo.resize((1600, 1200), Image.Resampling.NEAREST)
    return draw_photo(50, (900, 200))


FAULTS = ("dark", "bright", "blurry", "low_information", "gray", "odd_size", "odd_aspect")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(12):
        (folder / f"good{seed:02d}.jpg").write_bytes(encode(draw_photo(seed, SIZE), "JPEG"))
    for kind in FAULTS:
        (folder / f"{kind}.png").write_bytes(encode(faulty(kind), "PNG"))
    (folder / "same.jpg").write_bytes((folder / "good03.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    return folder


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "photos.h5"
    spec = {"resize": 256, "crop": 224, "interpolation": "bilinear"}
    embedkit.extract(folder, path, backbone="tiny", preprocessing=embedkit.Preprocessing(**spec))
    return path


@pytest.fixture
def old(store, tmp_path):
    """The same store as an older version wrote it, without measures."""
    path, shard = tmp_path / "old.h5", ShardFile(store)
    kept = [name for name in shard.columns if name not in MEASURES]
    content = ShardContent(
        shard.meta, shard.counts, shard.blocks(), shard.failures(), shard.has_labels, shard.head(),
        kept,
    )  # fmt: skip
    with path.open("w+b") as file:
        write_shard(file, content)
    shard.close()
    return path


def named(report, kind):
    return [issue.id.rpartition("/")[2] for issue in report.of_kind(kind)]


def test_every_drawn_fault_is_found_and_no_other(store):
    report = find_quality_issues(store)
    for kind in FAULTS:
        assert named(report, kind) == [f"{kind}.png"], kind
    assert named(report, "exact_duplicate") == ["same.jpg"]
    assert report.of_kind("exact_duplicate")[0].other.endswith("good03.jpg")
    assert [failure.id.rpartition("/")[2] for failure in report.failures] == ["broken.jpg"]
    assert report.counts == {
        **dict.fromkeys(FAULTS, 1), "exact_duplicate": 1, "near_duplicate": 0, "failed": 1,
    }  # fmt: skip
    assert (report.images, report.measured) == (20, 20)
    assert len(report.to_pandas()) == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("dark", 256), ("bright", -1), ("blurry", 1e9), ("low_information", 8.1), ("gray", 0),
     ("odd_size", 1), ("odd_aspect", 1)],
)  # fmt: skip
def test_thresholds_are_settable(store, name, value):
    report = find_quality_issues(store, thresholds=replace(QualityThresholds(), **{name: value}))
    found = report.of_kind(name)
    # All images are gray then, and none is odd for it; one of low information isn't called blurry.
    counts = {"gray": 0, "blurry": 19, "bright": len(found)}
    assert len(found) == counts.get(name, 20)
    assert found or name == "gray"
    values = [issue.value for issue in found]
    if name in {"dark", "blurry", "low_information"}:
        assert values == sorted(values)
    elif name != "odd_size":
        assert values == sorted(values, reverse=True)


def test_old_stores_are_measured_from_the_images(store, old, folder, tmp_path):
    new, report = find_quality_issues(store), find_quality_issues(old)
    for name in MEASURES:
        np.testing.assert_array_equal(report.measures[name], new.measures[name])
    moved = tmp_path / "elsewhere"
    folder_copy = moved / folder.name
    folder_copy.mkdir(parents=True)
    for path in folder.iterdir():
        (folder_copy / path.name).write_bytes(path.read_bytes())
    (folder_copy / "good00.jpg").write_bytes(encode(draw_photo(99, SIZE), "JPEG"))
    (folder_copy / "good01.jpg").unlink()
    other = find_quality_issues(old, images=[folder_copy])
    assert (other.images, other.measured) == (20, 18)
    with pytest.raises(SourceError):
        find_quality_issues(old, images=[tmp_path / "none"])


def test_measures_are_written_once(store, old):
    with EmbeddingStore.open(old) as opened:
        assert "sharpness" not in opened.columns
        with pytest.raises(StoreError, match="embedkit quality --write"):
            matching_rows([opened], ["sharpness>1"])
        before = opened.fingerprint
        rows = opened.to_numpy()
    report = find_quality_issues(old, write=True)
    assert verify(old) == []
    with EmbeddingStore.open(old) as opened, EmbeddingStore.open(store) as whole:
        assert opened.has_rows_of(before)
        assert np.array_equal(opened.to_numpy(), rows)
        assert opened.columns == whole.columns
        for name in whole.columns:
            np.testing.assert_array_equal(opened.images(name), whole.images(name))
    again = find_quality_issues(old, images=["not needed any more"])
    assert again.issues == report.issues


def test_filters_know_the_measures(store):
    with EmbeddingStore.open(store) as opened:
        names = np.array(opened.ids)

        def passing(*filters):
            return {name.rpartition("/")[2] for name in names[matching_rows([opened], filters)]}

        assert passing("aspect>=3") == {"odd_aspect.png"}
        assert passing("luminance<30") == {"dark.png"}
        assert "blurry.png" in passing("sharpness<60", "entropy>4", "luminance>40")
        assert passing("alpha=0", "bits=8") == {name.rpartition("/")[2] for name in names}
        assert passing("sharpness<1000000") == passing("width>0") != passing("sharpness>60")
        assert passing("camera=Can*") == set()
        assert passing("captured!=-1") == set()


def test_near_duplicates_of_a_search(store, tmp_path):
    found = embedkit.find_duplicates(store)
    folder = embedkit.write_duplicates(found, tmp_path / "dups", report=False)
    report = find_quality_issues(store, duplicates=folder)
    assert "same.jpg" in named(report, "near_duplicate")
    for issue in report.of_kind("near_duplicate"):
        assert issue.other < issue.id
        assert issue.value <= 1
    other = write_store(tmp_path / "other.h5", np.ones((20, 4), "f4"))
    with pytest.raises(DedupError, match="run dedup find again"):
        find_quality_issues(other, images=[tmp_path], duplicates=folder)


def test_output(store, tmp_path):
    report = find_quality_issues(store)
    folder = write_quality(report, tmp_path / "quality", examples=1)
    with (folder / "issues.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(report.issues)
    images = pandas.read_parquet(folder / "images.parquet")
    assert list(images) == ["id", *MEASURES]
    np.testing.assert_array_equal(images["sharpness"], report.measures["sharpness"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["issues"] == report.counts
    assert summary["thresholds"]["blurry"] == 0.02
    page = (folder / "report.html").read_text()
    for title in ("Dark", "Blurry", "Gray among color", "Exact duplicates", "Failures"):
        assert f"<h2>{title}</h2>" in page
    assert "variance of the Laplacian below 0.02 times that of luminance" in page
    with pytest.raises(StoreError, match="overwrite=True"):
        write_quality(report, folder)
    write_quality(report, folder, overwrite=True)
    (folder / "mine.txt").write_text("")
    with pytest.raises(StoreError, match="holds other files"):
        write_quality(report, folder, overwrite=True)


def test_columns_of_the_user_are_on_the_page(store, tmp_path):
    mine = shutil.copy(store, tmp_path / "mine.h5")
    report = find_quality_issues(mine)
    table = tmp_path / "t.csv"
    table.write_text(f"id,camera_of\n{report.of_kind('dark')[0].id},a <b>\n", "utf-8")
    embedkit.annotate(mine, table, key="id")
    page = (write_quality(find_quality_issues(mine), tmp_path / "q") / "report.html").read_text()
    assert "camera_of = a &lt;b&gt;" in page


def test_a_store_without_images(tmp_path):
    empty = write_store(tmp_path / "a.h5", np.empty((0, 4), "f4"))
    report = find_quality_issues(empty)
    assert (report.images, report.issues) == (0, ())
    assert "No issues found" in write_quality(report, tmp_path / "q").joinpath(
        "report.html"
    ).read_text("utf-8")
