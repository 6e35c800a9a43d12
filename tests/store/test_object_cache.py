"""Stores and indexes at URLs: opened, searched, verified by copies that are never wrong."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from object_stores import clear_memory, copy_in, files, write
from stores import write_store

from embedkit import EmbeddingStore, Index, annotate, find_duplicates, label, merge, verify
from embedkit.backbones.registry import cache_folder
from embedkit.errors import IndexCorruptError, IndexFileError, StoreCorruptError, StoreError
from embedkit.index import IndexSpec
from embedkit.index.verify import index_problems
from embedkit.retrieval.selections import read_selection
from embedkit.store.detect import is_store, kind_of_path
from embedkit.store.manifest import encode_manifest
from embedkit.store.object_cache import address_of, find, with_addresses
from embedkit.store.reader import entry_of

URL = "memory://bucket"
ROWS = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float16)


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    yield
    clear_memory()


@pytest.fixture
def store(tmp_path):
    """A local sharded store, whose copy lies at ``URL/emb``."""
    folder = write_sharded(tmp_path / "emb", ROWS)
    copy_in(folder, f"{URL}/emb")
    return folder


def write_sharded(folder, rows, size=10):
    folder.mkdir()
    names = [f"{row}.jpg" for row in range(len(rows))]
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        write_store(
            folder / f"shard-{start // size:06d}.h5", rows[part], ids=names[part],
            content_hash=[hashlib.sha256(one.encode()).digest() for one in names[part]],
        )  # fmt: skip
    entries = [entry_of(path) for path in sorted(folder.iterdir())]
    with EmbeddingStore(folder / entries[0].name) as first:
        (folder / "manifest.json").write_bytes(encode_manifest(first.meta, entries))
    return folder


def copies():
    """The files in the cache: name to path."""
    root = cache_folder() / "objects"
    return {path.name: path for path in root.rglob("*") if path.is_file()}


def damage(url):
    data = bytearray(files(url)[""])
    data[-1] ^= 1
    write(url, bytes(data))


def test_a_store_is_read_shard_by_shard(store):
    with EmbeddingStore(f"{URL}/emb/") as there, EmbeddingStore(store) as here:
        assert set(copies()) == {"manifest.json", "shard-000000.h5"}
        assert (there.address, there.fingerprint) == (f"{URL}/emb", here.fingerprint)
        assert repr(there).startswith(f"<EmbeddingStore '{URL}/emb': 40 images")
        np.testing.assert_array_equal(there[35], ROWS[35])
        assert set(copies()) == {"manifest.json", "shard-000000.h5", "shard-000003.h5"}
        np.testing.assert_array_equal(there.to_numpy(), ROWS)
        assert list(there.ids) == list(here.ids)
    before = {name: path.stat().st_ino for name, path in copies().items()}
    with EmbeddingStore(f"{URL}/emb") as again:
        np.testing.assert_array_equal(again.to_numpy(), ROWS)
    assert {name: path.stat().st_ino for name, path in copies().items()} == before


def test_a_path_may_have_lost_a_slash(store, tmp_path, monkeypatch):
    with EmbeddingStore(Path(f"{URL}/emb")) as there:
        assert there.address == f"{URL}/emb"
    monkeypatch.chdir(tmp_path)
    os.renames("emb", "memory:/bucket/emb")  # a local folder of that name comes first
    with EmbeddingStore(Path("memory:/bucket/emb")) as here:
        assert here.address == "memory:/bucket/emb"


def test_one_file(tmp_path):
    write(f"{URL}/a.h5", write_store(tmp_path / "a.h5", ROWS).read_bytes())
    with EmbeddingStore(f"{URL}/a.h5") as there:
        np.testing.assert_array_equal(there.to_numpy(), ROWS)
    time.sleep(0.01)  # the version is a time here
    write(f"{URL}/a.h5", write_store(tmp_path / "b.h5", ROWS[:5]).read_bytes())
    with EmbeddingStore(f"{URL}/a.h5") as there:
        np.testing.assert_array_equal(there.to_numpy(), ROWS[:5])
    assert verify(f"{URL}/a.h5") == []
    damage(f"{URL}/a.h5")
    assert "damaged" in verify(f"{URL}/a.h5")[0]


def test_one_file_of_a_storage_without_versions(tmp_path, monkeypatch):
    monkeypatch.setattr("embedkit.sources.io.remote._VERSIONS", ())
    for rows in (ROWS, -ROWS):  # of the same size
        write(f"{URL}/a.h5", write_store(tmp_path / "a.h5", rows).read_bytes())
        with EmbeddingStore(f"{URL}/a.h5") as there:
            np.testing.assert_array_equal(there.to_numpy(), rows)


def test_a_replaced_store_is_another_version(store, tmp_path):
    with EmbeddingStore(f"{URL}/emb") as old:
        MemoryFileSystem().rm("/bucket/emb", recursive=True)
        copy_in(write_sharded(tmp_path / "new", -ROWS), f"{URL}/emb")
        with pytest.raises(StoreCorruptError, match=rf"{URL}/emb/shard-000003\.h5: isn't the file"):
            old[35]
        with EmbeddingStore(f"{URL}/emb") as new:
            np.testing.assert_array_equal(new.to_numpy(), -ROWS)
        np.testing.assert_array_equal(old[0], ROWS[0])


def test_damage_is_found_before_hdf5_reads_the_file(store):
    with EmbeddingStore(f"{URL}/emb") as there:
        there.to_numpy()  # the copies are whole
    damage(f"{URL}/emb/shard-000002.h5")
    (problem,) = verify(f"{URL}/emb")
    assert problem.startswith(f"{URL}/emb/shard-000002.h5: isn't the file that manifest.json names")
    with EmbeddingStore(f"{URL}/emb") as there, pytest.raises(StoreCorruptError):
        there[25]
    assert "shard-000002.h5" not in copies()
    copies()["shard-000001.h5"].unlink()
    MemoryFileSystem().rm_file("/bucket/emb/shard-000001.h5")
    missing = pytest.raises(StoreError, match="not there, though")
    with EmbeddingStore(f"{URL}/emb") as there, missing:
        there[15]


def test_the_cache_is_bounded(store, monkeypatch):
    size = (store / "shard-000000.h5").stat().st_size
    monkeypatch.setenv("EMBEDKIT_OBJECT_CACHE_GB", str(2.6 * size / 1e9))
    with EmbeddingStore(f"{URL}/emb") as there:
        for row in range(0, 40, 10):
            np.testing.assert_array_equal(there[row], ROWS[row])
            old = time.time() - 3600 + row
            os.utime(copies()[f"shard-{row // 10:06d}.h5"], (old, old))
        assert {"shard-000002.h5", "shard-000003.h5"} <= set(copies())
        assert not {"shard-000000.h5", "shard-000001.h5"} & set(copies())
        np.testing.assert_array_equal(there.to_numpy(), ROWS)
        assert len(there.shard_paths) == 4  # needed all at once
        assert all(path.exists() for path in there.shard_paths)
    monkeypatch.setenv("EMBEDKIT_OBJECT_CACHE_GB", "much")
    copies()["shard-000000.h5"].unlink()
    with pytest.raises(StoreError, match="EMBEDKIT_OBJECT_CACHE_GB='much' is no number"):
        EmbeddingStore(f"{URL}/emb")


def test_a_copy_that_made_room_is_fetched_again(store):
    folder = find(f"{URL}/emb")
    for path in copies().values():
        path.unlink()
    folder.rmdir()
    with EmbeddingStore(folder) as there:
        assert there.address == f"{URL}/emb"
        np.testing.assert_array_equal(there.to_numpy(), ROWS)


def test_what_a_url_is(store):
    write(f"{URL}/cat.jpg", b"no store")
    assert is_store(f"{URL}/emb")
    assert kind_of_path(f"{URL}/emb") == "store"
    assert not is_store(f"{URL}/cat.jpg")
    assert kind_of_path(f"{URL}/none") == "nothing"
    for missing in (f"{URL}/none", f"{URL}/none.h5"):
        with pytest.raises(StoreError, match=f"{missing}: no such file, folder or bucket"):
            EmbeddingStore(missing)
        assert verify(missing) == [f"{missing}: no such file, folder or bucket"]
    with pytest.raises(IndexFileError, match=f"{URL}/none: no such file or folder"):
        Index.open(f"{URL}/none")
    with pytest.raises(StoreError, match="in its path; give it without"):
        EmbeddingStore(f"{URL}/../emb")


def test_names_of_copies_in_messages(store):
    path = find(f"{URL}/emb") / "shard-000000.h5"
    assert address_of(path) == f"{URL}/emb/shard-000000.h5"
    assert address_of(store) is None
    assert with_addresses(f"{path}: damaged") == f"{URL}/emb/shard-000000.h5: damaged"


def test_a_store_at_a_url_can_only_be_read(store):
    for change in (
        lambda: label(f"{URL}/emb", "folder"),
        lambda: annotate(f"{URL}/emb", {"a": {"b": 1}}),
        lambda: read_selection(find(f"{URL}/emb"), "best").write(["a"]),
    ):
        with pytest.raises(StoreError, match=f"{URL}/emb.*: can only be read; copy the store to a"):
            change()


def test_stores_at_urls_are_merged_and_deduplicated(store, tmp_path):
    merge([f"{URL}/emb"], tmp_path / "there.h5")
    merge([store], tmp_path / "here.h5")
    assert (tmp_path / "there.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()
    settings = {"calibration": "cosine", "threshold": 0.1, "verify": False}
    found = find_duplicates(f"{URL}/emb", **settings)
    assert found.store.path == f"{URL}/emb"
    here = find_duplicates(store, **settings)
    assert len(here.pairs) > 10
    np.testing.assert_array_equal(found.pairs.second, here.pairs.second)


def test_an_index_of_a_store_at_a_url(store, tmp_path):
    path = Index.build(f"{URL}/emb", tmp_path / "a.index")
    with Index.open(path) as index:
        (entry,) = index.manifest.stores
        assert (entry.path, entry.relative) == (f"{URL}/emb", f"{URL}/emb")
        assert index.search(ROWS[:3], k=1).ids == (("0.jpg",), ("1.jpg",), ("2.jpg",))
    MemoryFileSystem().rm("/bucket/emb", recursive=True)
    copy_in(write_sharded(tmp_path / "new", -ROWS), f"{URL}/emb")
    with pytest.raises(Exception, match="has changed since"):
        Index.open(path)


@pytest.mark.parametrize("rerank", [False, True])
def test_an_index_at_a_url(store, tmp_path, rerank):
    spec = IndexSpec(factory="SQ8" if rerank else "Flat", rerank=rerank or None)
    path = Index.build(store, tmp_path / "emb.index", spec)
    expected = Index.open(path).search(ROWS, k=3)
    copy_in(path, f"{URL}/emb.index")
    os.rename(store, tmp_path / "moved")  # the store is the one beside the index
    with Index.open(f"{URL}/emb.index") as index:
        assert index.manifest.rerank == rerank
        assert index.search(ROWS, k=3).ids == expected.ids
    assert index_problems(f"{URL}/emb.index") == []
    with pytest.raises(IndexFileError, match=r"can only be read; copy it to a local path"):
        Index.remove(f"{URL}/emb.index", ["a"])
    name = index.manifest.files["index"].name
    damage(f"{URL}/emb.index/{name}")
    assert len(index_problems(f"{URL}/emb.index")) == 1
    with pytest.raises(IndexCorruptError, match=f"{URL}/emb.index/{name}: isn't the file"):
        Index.open(f"{URL}/emb.index")
