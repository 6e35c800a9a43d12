"""Indexes that are built at URLs: whole when they are seen, and searched as local ones."""

from pathlib import Path

import numpy as np
import pytest
from object_stores import Crashed, Crashing, copy_in, files, left_in, write
from stores import write_store

from embedkit import Index
from embedkit.errors import IndexFileError, StoreError
from embedkit.index import IndexSpec
from embedkit.index.verify import index_problems
from embedkit.sources.io import transfer

ROWS = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float16)
SPECS = {
    "flat": IndexSpec(factory="Flat"),
    "reranked": IndexSpec(factory="IVF4,SQ8", rerank=True),
    "on disk": IndexSpec(factory="IVF4,SQ8", on_disk=True),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "emb.h5", ROWS)


def neighbours(path):
    with Index.open(path) as index:
        return index.search(ROWS[:50], k=3).ids


@pytest.mark.parametrize("name", SPECS)
def test_it_is_searched_as_a_local_one(store, bucket, tmp_path, name):
    local = Index.build(store, tmp_path / "a.index", SPECS[name])
    built = Index.build(store, Path(f"{bucket}/a.index/"), SPECS[name], work_dir=tmp_path / "work")
    assert built == f"{bucket}/a.index"
    assert not left_in(tmp_path / "work")
    assert neighbours(built) == neighbours(local)
    assert index_problems(built) == []
    with Index.open(built) as index:
        named = {entry.name for entry in index.manifest.files.values()}
    assert set(files(built)) == {"manifest.json", *named}


def test_a_store_at_a_url(store, bucket):
    write(f"{bucket}/emb.h5", store.read_bytes())
    built = Index.build(f"{bucket}/emb.h5", f"{bucket}/a.index")
    with Index.open(built) as index:
        (entry,) = index.manifest.stores
        assert entry.path == f"{bucket}/emb.h5"
        assert index.search(ROWS[:2], k=1).ids == (("0.jpg",), ("1.jpg",))


def test_the_store_may_be_put_beside_it(memory, tmp_path):
    store = write_store(tmp_path / "emb.h5", ROWS)
    built = Index.build(store, f"{memory}/a.index", SPECS["reranked"])
    before = neighbours(built)
    write(f"{memory}/emb.h5", store.read_bytes())
    store.unlink()
    assert neighbours(built) == before


def test_a_copy_is_changed_like_any_index(store, memory, tmp_path):
    built = Index.build(store, f"{memory}/a.index", SPECS["flat"])
    (tmp_path / "a.index").mkdir()
    for name, data in files(built).items():
        (tmp_path / "a.index" / name).write_bytes(data)
    assert Index.remove(tmp_path / "a.index", ["0.jpg"]) == 1
    Index.compact(tmp_path / "a.index")
    assert index_problems(tmp_path / "a.index") == []
    copy_in(tmp_path / "a.index", f"{memory}/b.index")
    with Index.open(f"{memory}/b.index") as index:
        assert len(index) == len(ROWS) - 1


def test_a_file_url_is_a_local_path(store, tmp_path):
    built = Index.build(store, f"file://{tmp_path}/a%20b.index")
    assert built == tmp_path / "a b.index"
    assert index_problems(built) == []


def test_overwriting(store, memory, tmp_path):
    url = f"{memory}/a.index"
    Index.build(store, url, SPECS["flat"])
    before = files(url)
    with pytest.raises(IndexFileError, match=f"{url}: exists already; overwrite=True replaces it"):
        Index.build(store, url, SPECS["flat"])
    assert files(url) == before
    with Index.open(url) as old:
        Index.build(store, url, SPECS["reranked"], overwrite=True)
        assert old.search(ROWS[:1], k=1).ids == (("0.jpg",),)
    with Index.open(url) as index:
        assert index.factory == "IVF4,SQ8"
        named = {entry.name for entry in index.manifest.files.values()}
    assert set(files(url)) == {"manifest.json", *named}
    write(f"{url}/manifest.json", files(url)["manifest.json"].replace(b"IVF4", b"IVF8"))
    Index.build(store, url, SPECS["flat"], overwrite=True)  # as a damaged local one
    assert index_problems(url) == []


def test_what_is_refused(store, memory, tmp_path):
    write(f"{memory}/emb/manifest.json", b'{"format": "embedkit-store"}')
    with pytest.raises(IndexFileError, match=f"{memory}/emb: is no index, so it is not replaced"):
        Index.build(store, f"{memory}/emb", overwrite=True)
    with pytest.raises(StoreError, match="sftp://a/b: stores and indexes are written to s3://"):
        Index.build(store, "sftp://a/b")
    for url in ("memory://bucket", f"{memory}/../a"):
        with pytest.raises(StoreError, match=f"{url}: names nothing in a bucket"):
            Index.build(store, url)
    with pytest.raises(ValueError, match=r"a\.index: the workers of a cluster write .* work_dir"):
        Index.build(store, f"{memory}/a.index", ray="auto")
    with pytest.raises(ValueError, match=r"IVF599.* can't be built of 600 rows"):
        Index.build(store, f"{memory}/a.index", IndexSpec(factory="IVF599,Flat"))
    assert set(files(memory)) == {"emb/manifest.json"}
    (tmp_path / "taken").write_text("a file")
    with pytest.raises((IndexFileError, StoreError), match="taken"):
        Index.build(store, f"{memory}/a.index", work_dir=tmp_path / "taken")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_crash_at_every_change(store, memory, tmp_path, after, overwrite):
    """What is seen is the index before, or nothing, or the whole one; the same command ends it."""
    for at in range(1, 30):
        url, work = f"{memory}/{at}", tmp_path / "work"
        if overwrite:
            Index.build(store, url, SPECS["flat"], work_dir=work)
        with pytest.MonkeyPatch.context() as patch:
            Crashing(patch, at, after=after)
            try:
                Index.build(store, url, SPECS["reranked"], overwrite=overwrite, work_dir=work)
                break
            except Crashed:
                pass
        if "manifest.json" in files(url):
            assert index_problems(url) == []
        else:
            assert not overwrite
        assert Index.build(store, url, SPECS["reranked"], overwrite=overwrite, work_dir=work) == url
        assert index_problems(url) == []
        with Index.open(url) as index:
            assert index.factory == "IVF4,SQ8"
            named = {entry.name for entry in index.manifest.files.values()}
        if not overwrite:  # which begins anew
            assert set(files(url)) == {"manifest.json", *named}
        assert not left_in(work)
    assert at > 5


def test_another_process_builds_it_meanwhile(store, memory, tmp_path, monkeypatch):
    url, really = f"{memory}/a.index", transfer.create

    def meanwhile(target, content):
        monkeypatch.setattr(transfer, "create", really)
        Index.build(store, url, SPECS["flat"], work_dir=tmp_path / "b")
        return really(target, content)

    monkeypatch.setattr(transfer, "create", meanwhile)
    with pytest.raises(IndexFileError, match=f"{url}: another process has just written it"):
        Index.build(store, url, SPECS["reranked"], work_dir=tmp_path / "a")
    assert index_problems(url) == []
    with Index.open(url) as index:
        assert index.factory == "Flat"
        named = {entry.name for entry in index.manifest.files.values()}
    assert set(files(url)) == {"manifest.json", *named}
