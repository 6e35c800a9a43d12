"""Updates of stores at URLs: the rows of a new extraction, and never half of an update."""

import shutil

import numpy as np
import pytest
from images import write_photos
from object_stores import Crashed, Crashing, files

from embedkit import EmbeddingStore, extract, verify
from embedkit.errors import StoreError
from embedkit.store.update_target import ObjectTarget

SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 2, "shard_rows": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 11, size=(48, 40))
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def change(photos):
    """Adds, changes and removes one; repairs one."""
    write_photos(photos / "more", 1, size=(48, 40), seed=50)
    shutil.copy(photos / "photo_0001.jpg", photos / "photo_0006.jpg")
    shutil.copy(photos / "photo_0002.jpg", photos / "bad.jpg")
    (photos / "photo_0000.jpg").unlink()


def content(path):
    """What a store holds: ids, rows, counts."""
    with EmbeddingStore(path) as store:
        return list(store.ids), store.to_numpy().tolist(), store.counts


def same_as_new(photos, url, tmp_path):
    fresh = tmp_path / "fresh.h5"
    extract(photos, fresh, overwrite=True, **SETTINGS)
    assert content(url) == content(fresh)
    assert verify(url) == []


@pytest.mark.parametrize("name", ["emb", "all.h5"])
def test_it_equals_a_new_extraction(photos, bucket, tmp_path, name):
    url, work = f"{bucket}/{name}", tmp_path / "work"
    extract(photos, url, sharded=name == "emb", work_dir=work, **SETTINGS)
    first = files(url)
    change(photos)
    result = extract(photos, f"{url}/", update=True, work_dir=work)
    assert (result.path, result.written, result.generation) == (url, True, 1)
    assert [len(result.added), len(result.changed), len(result.removed)] == [1, 2, 1]
    assert result.recovered == (str(photos / "bad.jpg"),)
    same_as_new(photos, url, tmp_path)
    assert not [path for path in work.rglob("*") if path.is_file()]
    before = files(url)
    if name == "emb":  # who reads the store before goes on reading it
        assert {**first, **before} == {**before, "shard-000000.h5": first["shard-000000.h5"]}
    again = extract(photos, url, update=True, work_dir=work)
    assert (again.path, again.written, files(url)) == (url, False, before)
    (photos / "photo_0003.jpg").unlink()
    extract(photos, url, update=True, work_dir=work)
    same_as_new(photos, url, tmp_path)


def test_failed_images_are_tried_again(photos, memory, tmp_path):
    url = f"{memory}/emb"
    extract(photos, url, sharded=True, **SETTINGS)
    (photos / "photo_0000.jpg").unlink()
    shutil.copy(photos / "photo_0002.jpg", photos / "bad.jpg")
    assert extract(photos, url, retry_failed=True).embedded == 12
    with EmbeddingStore(url) as store:
        assert store.counts.failed == 0


def test_without_a_store_it_is_an_extraction(photos, memory, tmp_path):
    assert extract(photos, f"{memory}/a.h5", update=True, **SETTINGS).embedded == 11
    assert set(files(memory)) == {"a.h5"}


@pytest.mark.parametrize("name", ["emb", "all.h5"])
@pytest.mark.parametrize("after", [False, True])
def test_crash_at_every_change(photos, memory, tmp_path, name, after):
    """What is seen is the store before or after; the same command ends the update."""
    for at in range(1, 30):
        extract(photos, f"{memory}/{at}/{name}", sharded=name == "emb", **SETTINGS)
        if name == "all.h5" and at == 2:
            break
    before = content(f"{memory}/1/{name}")
    change(photos)
    extract(photos, tmp_path / "fresh.h5", **SETTINGS)
    new = content(tmp_path / "fresh.h5")
    for at in range(1, 30):
        url = f"{memory}/{at}/{name}"
        with pytest.MonkeyPatch.context() as patch:
            Crashing(patch, at, after=after)
            try:
                extract(photos, url, update=True)
                break
            except Crashed:
                pass
        assert content(url) in (before, new)
        extract(photos, url, update=True)
        assert content(url) == new
        assert verify(url) == []
    assert at > (3 if name == "emb" else 1)


@pytest.mark.parametrize("name", ["emb", "all.h5"])
@pytest.mark.parametrize("step", ["before", "at the end"])
def test_another_machine_updates_it_meanwhile(photos, memory, tmp_path, monkeypatch, name, step):
    url = f"{memory}/{name}"
    extract(photos, url, sharded=name == "emb", work_dir=tmp_path / "a", **SETTINGS)
    change(photos)
    really, calls = ObjectTarget._refuse_changed, []

    def meanwhile(target):
        calls.append(target)
        if len(calls) == (1 if step == "before" or name == "all.h5" else 3):
            monkeypatch.setattr(ObjectTarget, "_refuse_changed", really)
            (photos / "photo_0004.jpg").unlink()
            extract(photos, url, update=True, work_dir=tmp_path / "b")
        really(target)

    monkeypatch.setattr(ObjectTarget, "_refuse_changed", meanwhile)
    with pytest.raises(StoreError, match=f"{url}: another process has changed it since"):
        extract(photos, url, update=True, work_dir=tmp_path / "a")
    same_as_new(photos, url, tmp_path)
    extract(photos, url, update=True, work_dir=tmp_path / "a")
    same_as_new(photos, url, tmp_path)


def test_leftovers_are_removed_later(photos, memory, tmp_path):
    """Those of a generation are removed by the update after the next one."""
    url = f"{memory}/emb"
    extract(photos, url, sharded=True, **SETTINGS)
    change(photos)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 1, after=True)
        extract(photos, url, update=True)
    (left,) = {name for name in files(url) if ".g1-" in name}
    (photos / "photo_0001.jpg").unlink()
    extract(photos, url, update=True, work_dir=tmp_path / "elsewhere")
    assert left in files(url)
    (photos / "photo_0002.jpg").unlink()
    extract(photos, url, update=True)
    assert left not in files(url)
    same_as_new(photos, url, tmp_path)
    extract(photos, url, sharded=True, overwrite=True, **SETTINGS)
    assert not [name for name in files(url) if ".g" in name]
    np.testing.assert_array_equal(content(url)[0], content(tmp_path / "fresh.h5")[0])
