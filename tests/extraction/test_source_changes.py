"""A finished store notices which images of its source were added, removed or changed."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from images import draw_photo, encode, write_photos

from embedkit.errors import SourceError, StoreError
from embedkit.extraction.extract import extract
from embedkit.extraction.source_images import OriginalImages
from embedkit.store import EmbeddingStore
from embedkit.store.label import label

SMALL = {"backbone": "tiny", "weights": "random", "batch_size": 4, "engine": "torch"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder, extracted by its relative name."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 6, size=(40, 40))
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    extract("photos", "a.h5", **SMALL)
    return tmp_path / "photos"


def again(**options):
    return extract("photos", "a.h5", **{**SMALL, **options})


def test_unchanged_files_are_complete(world):
    assert again().resumed == 8
    assert again(check_content=True).complete
    with EmbeddingStore.open("a.h5") as store:
        times = {
            str(world / Path(name).name): t
            for name, t in zip(store.ids, store.images("mtime"), strict=True)
        }
        assert all(os.stat(name).st_mtime_ns == t for name, t in times.items())


def test_each_kind_of_change_is_named(world):
    new, old = encode(draw_photo(50, (40, 40)), "JPEG"), (world / "photo_0001.jpg").read_bytes()
    for change, undo, text in (
        (lambda: (world / "new.jpg").write_bytes(new), (world / "new.jpg").unlink,
         r"1 added \(photos/new\.jpg\)"),
        (lambda: (world / "photo_0001.jpg").rename(world / ".hidden"),
         lambda: (world / ".hidden").rename(world / "photo_0001.jpg"),
         r"1 removed \(photos/photo_0001\.jpg\)"),
        (lambda: (world / "bad.jpg").write_bytes(new), lambda: (world / "bad.jpg").write_bytes(b""),
         r"1 changed \(photos/bad\.jpg\)"),
        (lambda: (world / "photo_0001.jpg").write_bytes(new),
         lambda: (world / "photo_0001.jpg").write_bytes(old),
         r"1 changed \(photos/photo_0001\.jpg\)"),
    ):  # fmt: skip
        change()
        with pytest.raises(StoreError, match=r"a\.h5: exists, and its source has changed.*" + text):
            again()
        undo()
    assert again().complete  # the last one was written anew: only its time is another one
    assert again(check_content=True).complete


def test_the_same_size_and_time_needs_the_content(world):
    path = world / "photo_0002.jpg"
    data, status = bytearray(path.read_bytes()), path.stat()
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert again().complete
    with pytest.raises(StoreError, match=r"1 changed \(photos/photo_0002\.jpg\)"):
        again(check_content=True)


def test_what_is_skipped_is_no_addition_and_a_copy_keeps_whole_seconds(world):
    (world / "more.txt").write_text("no image either")
    for path in world.iterdir():
        os.utime(path, (10**9, path.stat().st_mtime_ns // 10**9))
    assert again().complete


def test_a_member_of_an_archive_and_the_archive(world, tmp_path):
    with tarfile.open("p.tar", "w") as tar:
        tar.add("photos")
    extract("p.tar", "t.h5", **SMALL)
    assert extract("p.tar", "t.h5", **SMALL).complete
    shutil.copy("p.tar", "copy.tar")
    (world / "photo_0000.jpg").unlink()
    with tarfile.open("p.tar", "w") as tar:
        tar.add("photos")
    with pytest.raises(StoreError, match=r"1 removed \(p\.tar#photos/photo_0000\.jpg\)"):
        extract("p.tar", "t.h5", **SMALL)
    shutil.move("copy.tar", "p.tar")  # as it was, but for its time
    assert extract("p.tar", "t.h5", **SMALL).complete
    assert extract("p.tar", "t.h5", check_content=True, **SMALL).complete


def test_another_time_and_content_of_the_same_size(world):
    path = world / "photo_0002.jpg"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    with pytest.raises(StoreError, match=r"1 changed \(photos/photo_0002\.jpg\)"):
        again()


def test_labels_that_were_put_in_are_no_change(world):
    label("a.h5", "folder")
    assert again().complete


def test_one_source_by_several_names(world):
    for name in ("photos/", "./photos", "./photos/", ".//photos//"):
        assert extract(name, "a.h5", **SMALL).resumed == 8


def test_images_are_found_from_elsewhere(world, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        assert list(store.meta.roots) == [str(tmp_path)]
        ids, folders = list(store.ids), store.meta.folders()
    with OriginalImages.by_ids(ids, folders) as images:
        assert images(ids[0]).shape == (40, 40, 3)
    shutil.move(world, tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"none of the 6 images was found.*images=FOLDER"):
        OriginalImages.by_ids(ids, folders)


def test_an_absolute_source_has_no_root(world, tmp_path):
    extract(tmp_path / "photos", "b.h5", **SMALL)
    with EmbeddingStore.open("b.h5") as store:
        assert list(store.meta.roots) == []


@pytest.mark.parametrize("prefix", ["a", "sets/a"])
def test_prefixed_ids_lead_to_their_files(world, tmp_path, monkeypatch, prefix):
    with tarfile.open("p.tar", "w") as tar:
        tar.add("photos/photo_0001.jpg")
    sources = ["photos", "p.tar", str(tmp_path / "photos" / "photo_0002.jpg")]
    extract(sources, "b.h5", prefix=prefix, **SMALL)
    monkeypatch.chdir("/")
    with EmbeddingStore.open(tmp_path / "b.h5") as store:
        assert all(name.startswith(f"{prefix}/") for name in store.ids)
        ids, folders, hashes = list(store.ids), store.meta.folders(), store.images("content_hash")
    with OriginalImages.by_ids(ids, folders) as images:
        for name, content_hash in zip(ids, hashes, strict=True):
            assert hashlib.sha256(images.read(name)).digest() == content_hash.tobytes()
