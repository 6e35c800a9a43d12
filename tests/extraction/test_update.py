"""An updated store equals one that is extracted from the source as it is now."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from threading import Event

import fsspec
import numpy as np
import pytest
from images import draw_photo, encode, write_photos

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore, verify
from embedkit.store.annotate import annotate
from embedkit.store.format import IMAGE_DTYPES, USUAL_COLUMNS
from embedkit.store.label import label
from embedkit.store.writer import ShardContent, encode_shard

SMALL = {"backbone": "tiny", "weights": "random", "batch_size": 4, "engine": "torch"}


def photo(seed):
    return encode(draw_photo(seed, (40, 40)), "JPEG")


def write_folder(folder):
    """Eight photos in two folders, one damaged, one file that is no image."""
    write_photos(folder / "a", 5, size=(40, 40))
    write_photos(folder / "b", 3, size=(40, 40), seed=20)
    (folder / "a" / "bad.jpg").write_bytes(b"no image")
    (folder / "b" / "notes.txt").write_text("no image")


def change_folder(folder):
    """Adds three, changes one, removes one, repairs one, and one more fails."""
    for place, seed in (("a/photo_0001b.jpg", 50), ("b/zz.jpg", 51), ("a/0.jpg", 52)):
        (folder / place).write_bytes(photo(seed))
    (folder / "a" / "photo_0003.jpg").write_bytes(photo(60))
    (folder / "b" / "photo_0000.jpg").unlink()
    (folder / "a" / "bad.jpg").write_bytes(photo(61))
    (folder / "b" / "worse.jpg").write_bytes(b"")


def pack_tar(folder, path):
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname="photos")


def pack_zip(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*.*")):
            archive.write(one, one.relative_to(folder))


def write_list(folder, path):
    names = sorted(map(str, folder.rglob("*.jpg")))
    path.write_text("\n".join(["path,label", *(f"{one},l{len(one) % 3}" for one in names)]) + "\n")


SOURCES = {
    "folder": (lambda folder, _: None, "photos"),
    "tar": (pack_tar, "photos.tar"),
    "zip": (pack_zip, "photos.zip"),
    "list": (write_list, "photos.csv"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos")
    return tmp_path


def rows_of(path):
    """All that a store says of its rows and failures, and of itself but for its age."""
    assert verify(path) == []
    with EmbeddingStore.open(path) as store:
        meta = store.meta.to_config()
        for name in ("generation", "same_rows_as"):
            meta.pop(name, None)
        facts = {name: store.images(name).tolist() for name in store.columns}
        failures = list(store.failures())
        return (
            list(store.ids), store.to_numpy().tobytes(), facts, store.labels, failures,
            store.counts, meta,
        )  # fmt: skip


def same_as_new(source, path, **options):
    """Compares a store with one that is extracted anew."""
    extract(source, "new.h5", overwrite=True, **{**SMALL, **options})
    assert rows_of(path) == rows_of("new.h5")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("sharded", [False, True])
def test_equals_a_new_extraction(here, kind, sharded):
    pack, source = SOURCES[kind]
    pack(here / "photos", here / source)
    extract(source, "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    change_folder(here / "photos")
    pack(here / "photos", here / source)
    result = extract(source, "s.h5", update=True)
    assert (result.written, result.generation, result.complete) == (True, 1, True)
    assert len(result.removed) == 1
    assert len(result.added) == 4
    assert "photo_0003" in "".join(result.changed)
    same_as_new(source, "s.h5")
    before = os.stat("s.h5")
    again = extract(source, "s.h5", update=True)
    assert (again.written, again.generation, again.added) == (False, 1, ())
    assert os.stat("s.h5") == before
    assert not os.path.exists("s.h5.partial")


@pytest.mark.parametrize("sharded", [False, True])
def test_annotations_stay_with_their_images(here, sharded):
    extract("photos", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    with EmbeddingStore.open("s.h5") as store:
        before = {name: f"of {name}" for name in store.ids}
    lines = [f"{name},{text}" for name, text in before.items()]
    (here / "t.csv").write_text("\n".join(["id,note", *lines]))
    annotate("s.h5", "t.csv")
    change_folder(here / "photos")
    result = extract("photos", "s.h5", update=True)
    assert (len(result.changed), len(result.added)) == (2, 4)
    assert verify("s.h5") == []
    with EmbeddingStore.open("s.h5") as store:
        notes = [note.decode() for note in store.images("note")]
        assert notes == [before.get(name, "") for name in store.ids]
        assert notes.count("") == 4
    annotate("s.h5", remove=["note"])
    same_as_new("photos", "s.h5")


def test_without_a_store_it_is_an_ordinary_extraction(here):
    assert extract("photos", "s.h5", update=True, **SMALL).embedded == 8
    assert type(extract("photos", "s.h5", **SMALL)).__name__ == "ExtractResult"


def test_the_settings_are_those_of_the_store(here):
    extract("photos", "s.h5", flip=True, dtype="float32", labels="folder", prefix="mine", **SMALL)
    change_folder(here / "photos")
    assert extract("photos", "s.h5", update=True, batch_size=4, device="cpu").written
    same_as_new("photos", "s.h5", flip=True, dtype="float32", labels="folder", prefix="mine")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"backbone": "resnet18_swsl"}, "backbone: tiny != resnet18_swsl"),
        ({"flip": True}, "pooling.flip|flip: False != True"),
        ({"batch_size": 8}, "batch_size: 4 != 8"),
        ({"precision": "bf16"}, "precision: fp32 != bf16"),
        ({"labels": "none"}, "labels: folder != none"),
        ({"input_size": 64}, r"preprocessing\.crop: 32 != 64"),
        ({"weights": "random", "seed": 3}, "seed: 0 != 3"),
        ({"device": "cuda:0"}, "device: cpu != cuda"),
    ],
)
def test_a_setting_that_contradicts_the_store_is_refused(here, given, text):
    extract("photos", "s.h5", labels="folder", **SMALL)
    with pytest.raises(StoreMismatchError, match=rf"s\.h5: .*({text}).*overwrite=True"):
        extract("photos", "s.h5", update=True, **given)


def test_what_does_not_go_together(here):
    for wrong in ({"update": True, "overwrite": True}, {"keep_removed": True}):
        with pytest.raises(ValueError, match="update=True"):
            extract("photos", "s.h5", **wrong)
    with pytest.raises(StoreError, match=r"s\.h5: no such file.*extract it first"):
        extract("photos", "s.h5", retry_failed=True)


def test_removed_images_can_be_kept_at_their_places(here):
    extract("photos", "s.h5", **SMALL)
    before = rows_of("s.h5")[0]
    change_folder(here / "photos")
    result = extract("photos", "s.h5", update=True, keep_removed=True)
    assert (result.removed, len(result.added)) == ((), 4)
    after = rows_of("s.h5")[0]
    assert [name for name in after if name in before] == before
    assert len(after) == 8 + 4  # three added, one recovered
    assert not extract("photos", "s.h5", update=True, keep_removed=True).written
    assert extract("photos", "s.h5", update=True).removed == ("photos/b/photo_0000.jpg",)
    same_as_new("photos", "s.h5")


@pytest.mark.parametrize("sharded", [False, True])
def test_only_what_failed_is_tried_again(here, sharded):
    extract("photos", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    ids, before = rows_of("s.h5")[0], EmbeddingStore.open("s.h5").to_numpy()
    change_folder(here / "photos")
    result = extract("photos", "s.h5", retry_failed=True)
    assert result.recovered == ("photos/a/bad.jpg",)
    assert (result.added, result.changed, result.removed) == ((), (), ())
    assert rows_of("s.h5")[0] == ["photos/a/bad.jpg", *ids]
    with EmbeddingStore.open("s.h5") as store:
        assert np.array_equal(store.to_numpy()[1:], before)
        assert store.counts.failed == 0
    assert not extract("photos", "s.h5", retry_failed=True).written
    extract("photos", "s.h5", update=True)
    same_as_new("photos", "s.h5")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_copy_of_the_images_renews_their_times_without_embedding(here, sharded, monkeypatch):
    (here / "photos" / "a" / "bad.jpg").unlink()
    extract("photos", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    with EmbeddingStore.open("s.h5") as store:
        fingerprint = store.fingerprint
    for path in (here / "photos").rglob("*.jpg"):
        os.utime(path, (5, 5))
    result = extract("photos", "s.h5", update=True)
    assert (result.written, result.resumed, result.changed) == (True, result.found, ())
    same_as_new("photos", "s.h5")
    with EmbeddingStore.open("s.h5") as store:
        assert store.has_rows_of(fingerprint)  # so that indexes stay valid
    monkeypatch.setattr("embedkit.sources.ImageReader.read", None)  # nothing is read again
    assert not extract("photos", "s.h5", update=True).written


def test_the_content_is_compared_on_request(here):
    extract("photos", "s.h5", **SMALL)
    path = here / "photos" / "a" / "photo_0002.jpg"
    data, status = bytearray(path.read_bytes()), path.stat()
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not extract("photos", "s.h5", update=True).written
    result = extract("photos", "s.h5", update=True, check_content=True)
    assert result.changed == ("photos/a/photo_0002.jpg",)
    same_as_new("photos", "s.h5")


def rewritten(path, columns=None, **changes):
    """The store's file as an older or another embedkit would have written it."""
    with EmbeddingStore.open(path) as store:
        shard = store.shard(0)
        content = ShardContent(
            replace(shard.meta, **changes), shard.counts, list(shard.blocks()),
            list(shard.failures()), shard.has_labels, shard.head(), columns or shard.columns,
        )  # fmt: skip
        data = bytes(encode_shard(content))
    path.write_bytes(data)


def test_an_older_store_without_times_is_compared_by_size_and_by_content_on_request(here):
    extract("photos", "s.h5", **SMALL)
    rewritten(here / "s.h5", tuple(IMAGE_DTYPES))
    os.utime(here / "photos" / "a" / "photo_0000.jpg", (5, 5))
    assert not extract("photos", "s.h5", update=True).written
    change_folder(here / "photos")
    other = bytearray((here / "photos" / "a" / "photo_0004.jpg").read_bytes())
    other[-3] ^= 1
    (here / "photos" / "a" / "photo_0004.jpg").write_bytes(other)
    result = extract("photos", "s.h5", update=True, check_content=True)
    assert len(result.changed) == 3  # the one that failed among them
    extract("photos", "new.h5", **SMALL)
    mine, new = rows_of("s.h5"), rows_of("new.h5")
    unknown = {"thumbnail", *USUAL_COLUMNS} - {*IMAGE_DTYPES, "mtime"}
    differing = {name for name in unknown if mine[2].pop(name) != new[2].pop(name)}
    assert differing == unknown - {
        "captured",
        "camera",
    }  # which nobody knows of the new ones either
    assert mine == new


def test_int8_cannot_be_continued(here):
    extract("photos", "s.h5", **SMALL)
    with EmbeddingStore.open("s.h5") as store:
        engine = {**store.meta.engine, "precision": "int8"}
    rewritten(here / "s.h5", engine=engine)
    before = (here / "s.h5").read_bytes()
    with pytest.raises(StoreError, match=r"s\.h5: was embedded in int8.*overwrite=True"):
        extract("photos", "s.h5", update=True)
    assert (here / "s.h5").read_bytes() == before


def test_labels_that_were_put_in_later_stay(here):
    extract("photos", "s.h5", **SMALL)
    names = here / "labels.csv"
    names.write_text("path,label\nphotos/a/photo_0000.jpg,cat\nphotos/b/photo_0001.jpg,dog\n")
    label("s.h5", names)
    change_folder(here / "photos")
    extract("photos", "s.h5", update=True)
    with EmbeddingStore.open("s.h5") as store:
        found = dict(zip(store.ids, store.labels, strict=True))
        assert store.meta.labels_from == str(names)
    assert {name: text for name, text in found.items() if text} == {
        "photos/a/photo_0000.jpg": "cat",
        "photos/b/photo_0001.jpg": "dog",
    }
    assert "photos/b/zz.jpg" in found


@pytest.mark.parametrize("sharded", [False, True])
def test_other_labels_are_no_embedding(here, sharded):
    write_list(here / "photos", here / "photos.csv")
    extract("photos.csv", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    text = (here / "photos.csv").read_text()
    lines = text.splitlines()
    (here / "photos.csv").write_text(text.replace(lines[2], lines[2].split(",")[0] + ",other"))
    result = extract("photos.csv", "s.h5", update=True)
    assert len(result.relabeled) == 1
    same_as_new("photos.csv", "s.h5")


def test_an_image_that_is_listed_twice(here):
    write_list(here / "photos", here / "photos.csv")
    extract("photos.csv", "s.h5", **SMALL)
    lines = (here / "photos.csv").read_text().splitlines()
    (here / "photos.csv").write_text("\n".join([*lines, lines[2], lines[2]]) + "\n")
    extract("photos.csv", "s.h5", update=True)
    same_as_new("photos.csv", "s.h5")


@pytest.mark.parametrize("sharded", [False, True])
def test_another_order_of_a_list(here, sharded):
    write_list(here / "photos", here / "photos.csv")
    extract("photos.csv", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    first, *lines = (here / "photos.csv").read_text().splitlines()
    (here / "photos.csv").write_text("\n".join([first, *lines[::-1]]) + "\n")
    assert extract("photos.csv", "s.h5", update=True).resumed >= 8
    same_as_new("photos.csv", "s.h5")


def test_sources_can_be_added_but_not_left_out(here):
    write_photos(here / "more", 2, size=(40, 40), seed=70)
    extract("photos", "s.h5", **SMALL)
    with pytest.raises(StoreError, match=r"was made of photos.*keep_removed=True"):
        extract("more", "s.h5", update=True)
    assert len(extract(["more", "photos"], "s.h5", update=True).added) == 2
    same_as_new(["more", "photos"], "s.h5")
    assert len(extract("more", "s.h5", update=True, keep_removed=True).removed) == 0
    with EmbeddingStore.open("s.h5") as store:
        assert store.meta.source == ["more", "photos"]


def test_a_source_without_one_image_of_the_store_is_refused(here):
    extract("photos", "s.h5", **SMALL)
    before = (here / "s.h5").read_bytes()
    shutil.move("photos", "elsewhere")
    write_photos(here / "photos", 2, size=(40, 40))
    with pytest.raises(StoreError, match=r"s\.h5: none of its 8 images is in the source"):
        extract("photos", "s.h5", update=True)
    assert (here / "s.h5").read_bytes() == before
    assert not (here / "s.h5.partial").exists()


def test_the_last_image_that_can_be_embedded(here):
    write_photos(here / "one", 1, size=(40, 40))
    extract("one", "s.h5", **SMALL)
    (here / "one" / "photo_0000.jpg").write_bytes(b"no image")
    before = (here / "s.h5").read_bytes()
    with pytest.raises(StoreError, match="not one image of the source can be embedded now"):
        extract("one", "s.h5", update=True)
    assert (here / "s.h5").read_bytes() == before


def test_an_image_that_is_gone_before_it_is_read(here):
    extract("photos", "s.h5", **SMALL)
    (here / "photos" / "a" / "photo_0001.jpg").unlink()
    (here / "photos" / "a" / "photo_0001.jpg").symlink_to("nowhere")
    extract("photos", "s.h5", update=True)
    same_as_new("photos", "s.h5")


def test_a_stopped_update_resumes_and_leaves_the_store(here):
    extract("photos", "s.h5", **SMALL)
    before = (here / "s.h5").read_bytes()
    change_folder(here / "photos")
    stop = Event()
    stop.set()
    assert not extract("photos", "s.h5", update=True, stop=stop).complete
    assert (here / "s.h5").read_bytes() == before
    result = extract("photos", "s.h5", update=True)
    assert result.complete
    assert extract("photos", "s.h5", update=True).generation == 1
    same_as_new("photos", "s.h5")


def test_a_stopped_update_of_a_source_that_changes_again_begins_anew(here):
    extract("photos", "s.h5", **SMALL)
    change_folder(here / "photos")
    stop = Event()
    stop.set()
    extract("photos", "s.h5", update=True, stop=stop)
    (here / "photos" / "a" / "late.jpg").write_bytes(photo(80))
    extract("photos", "s.h5", update=True)
    same_as_new("photos", "s.h5")


def test_a_stopped_update_is_no_beginning_of_a_new_store(here):
    extract("photos", "s.h5", **SMALL)
    change_folder(here / "photos")
    stop = Event()
    stop.set()
    extract("photos", "s.h5", update=True, stop=stop)
    (here / "s.h5").unlink()
    extract("photos", "s.h5", **SMALL)
    same_as_new("photos", "s.h5")


def test_an_unfinished_run_that_replaces_the_store_is_not_thrown_away(here):
    extract("photos", "s.h5", **SMALL)
    stop = Event()
    stop.set()
    extract("photos", "s.h5", overwrite=True, stop=stop, **{**SMALL, "flip": True})
    (here / "photos" / "a" / "late.jpg").write_bytes(photo(80))
    with pytest.raises(StoreError, match=r"s\.h5\.partial: holds an unfinished run"):
        extract("photos", "s.h5", update=True)


@pytest.mark.parametrize("sharded", [False, True])
def test_readers_go_on_reading_the_store_of_before(here, sharded):
    extract("photos", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    with EmbeddingStore.open("s.h5") as whole:
        expected, fingerprint = whole.to_numpy(), whole.fingerprint
    with EmbeddingStore.open("s.h5") as reader:
        change_folder(here / "photos")
        extract("photos", "s.h5", update=True)
        assert np.array_equal(reader.to_numpy(), expected)
        assert reader.fingerprint == fingerprint
        assert len(list(reader.ids)) == 8
    with EmbeddingStore.open("s.h5") as now:
        assert len(now) == 11


def test_only_shards_that_change_are_written(here):
    write_photos(here / "many", 20, size=(40, 40))
    extract("many", "s.h5", sharded=True, shard_rows=5, **SMALL)
    before = {one.name: one.stat().st_ino for one in (here / "s.h5").iterdir()}
    (here / "many" / "photo_0007.jpg").write_bytes(photo(90))
    for number in range(3):
        (here / "many" / f"z{number}.jpg").write_bytes(photo(91 + number))
    extract("many", "s.h5", update=True)
    same_as_new("many", "s.h5")
    with EmbeddingStore.open("s.h5") as store:
        names = [shard.name for shard in store.shards]
        assert [shard.embedded for shard in store.shards] == [5, 5, 5, 5, 3]
    kept = [name for name in names if name in before]
    assert kept == ["shard-000000.h5", "shard-000002.h5", "shard-000003.h5"]
    assert all((here / "s.h5" / name).stat().st_ino == before[name] for name in kept)
    assert (here / "s.h5" / "shard-000001.h5").exists()  # for those that have it open
    (here / "many" / "z9.jpg").write_bytes(photo(99))
    extract("many", "s.h5", update=True)
    same_as_new("many", "s.h5")
    with EmbeddingStore.open("s.h5") as store:
        assert [shard.embedded for shard in store.shards] == [5, 5, 5, 5, 4]  # filled up
    assert not (here / "s.h5" / "shard-000001.h5").exists()


@pytest.mark.parametrize("where", ["rows", "ids", "end"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_damaged_store_is_not_copied_from(here, sharded, where):
    extract("photos", "s.h5", sharded=sharded, **SMALL)
    change_folder(here / "photos")
    path = next((here / "s.h5").glob("*.h5")) if sharded else here / "s.h5"
    data = bytearray(path.read_bytes())
    with EmbeddingStore.open("s.h5") as store:
        row = store.embeddings[0].tobytes()
        name = store.ids[0].encode()
    at = {"rows": data.index(row), "ids": data.rindex(name), "end": len(data) - 1}[where]
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged|can't be read|changed"):
        extract("photos", "s.h5", update=True)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("sharded", "kills"),
    [
        (True, 5),
        pytest.param(False, 25, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
        pytest.param(True, 25, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_a_kill_leaves_the_old_store_or_the_new_one(here, sharded, kills):
    (here / "before").mkdir()
    extract("photos", "before/s.h5", sharded=sharded, shard_rows=3, **SMALL)
    change_folder(here / "photos")
    driver = Path(__file__).parents[1] / "update_driver.py"
    args = [sys.executable, str(driver), str(here), str(kills), str(kills)]
    ended = subprocess.run(args, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = ast.literal_eval(ended.stdout)
    assert sum(found.values()) == kills
    assert found["old"]


@pytest.fixture
def bucket(here):
    """A folder behind a URL, in this process's memory."""
    files = fsspec.filesystem("memory")
    for number in range(4):
        files.pipe(f"/bucket/{number}.jpg", photo(number))
    yield files
    files.rm("/bucket", recursive=True)


@pytest.mark.parametrize("sharded", [False, True])
def test_images_behind_urls_are_compared_by_their_versions(bucket, sharded, monkeypatch):
    monkeypatch.setattr("embedkit.store.store._most_open_shards", lambda: 1)
    source, path = "memory://bucket", "s.h5"
    extract(source, path, sharded=sharded, shard_rows=2, **SMALL)
    with EmbeddingStore.open(path) as store:
        assert all(store.images("etag"))
    assert not extract(source, path, update=True).written
    data = bytearray(photo(2))
    data[-3] ^= 1  # the same size
    bucket.pipe("/bucket/2.jpg", bytes(data))
    bucket.pipe("/bucket/3.jpg", photo(3))  # the same content
    bucket.pipe("/bucket/4.jpg", photo(4))
    result = extract(source, path, update=True)
    assert [result.added, result.changed] == [(f"{source}/4.jpg",), (f"{source}/2.jpg",)]
    same_as_new(source, path)
    assert not extract(source, path, update=True).written


def test_an_older_store_of_urls_learns_their_versions(bucket, here):
    extract("memory://bucket", "s.h5", **SMALL)
    rewritten(here / "s.h5", (*USUAL_COLUMNS, "thumbnail"))
    assert not extract("memory://bucket", "s.h5", update=True).written
    bucket.pipe("/bucket/4.jpg", photo(4))
    assert extract("memory://bucket", "s.h5", update=True).resumed == 4
    same_as_new("memory://bucket", "s.h5")
