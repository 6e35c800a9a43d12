"""An index brought up to date with its stores, against brute force and an index from scratch."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from stores import write_store
from vectors import all_scores, best_rows, clustered

from embedkit.errors import IndexFileError, IndexMismatchError, StoreMismatchError
from embedkit.index import Index, IndexSpec, IndexUpdate
from embedkit.index.generation import change_generation
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.store_rows import StoreRows

pytestmark = pytest.mark.usefixtures("one_core")

DIM, COUNT = 32, 2400
SPECS = {
    "Flat": IndexSpec(factory="Flat"),
    "HNSW": IndexSpec(factory="HNSW16", recall=0.98),
    "IVF": IndexSpec(factory="IVF16,SQ8", metric="l2", recall=0.98),
    "reranked": IndexSpec(factory="IVF16,PQ8x4fs", rerank=True, recall=0.98),
    "on disk": IndexSpec(factory="IVF16,SQ8", on_disk=True, recall=0.98),
}
BEFORE, AFTER = slice(0, 2000), slice(200, COUNT)
CHANGED = np.arange(300, 340)


def names(rows: slice) -> list[str]:
    return [f"{row}.jpg" for row in range(*rows.indices(COUNT))]


@pytest.fixture
def rows():
    """Rows before and after: 200 are gone, 40 changed, 400 are new, and the order is another."""
    before = clustered(COUNT, DIM).astype(np.float16)
    after = before.copy()
    after[CHANGED] = clustered(len(CHANGED), DIM, seed=9).astype(np.float16)
    return before, after


def write(path, rows, span, order=slice(None)):
    """A store of some of the rows."""
    return write_rows(path, rows[span][order], names(span)[order])


def write_rows(path, rows, ids):
    """A store whose images' hashes follow from the rows."""
    hashes = [hashlib.sha256(row.tobytes()).digest() for row in rows]
    return write_store(path, rows, ids=ids, content_hash=hashes)


def found_by(index, queries):
    """The ids that an index finds for some rows, ten each."""
    with Index.open(index) as opened:
        return {name for ids in opened.search(queries, 10).ids for name in ids}


@pytest.mark.parametrize("name", SPECS)
def test_what_it_finds_is_what_one_from_scratch_finds(rows, tmp_path, name) -> None:
    before, after = rows
    spec = SPECS[name]
    store = write(tmp_path / "a.h5", before, BEFORE)
    index = Index.build(store, tmp_path / "photos.index", spec)
    write(store, after, AFTER, slice(None, None, -1))
    with pytest.raises(IndexMismatchError, match="embedkit index update"):
        Index.open(index)
    done = Index.update(index)
    assert (done.added, done.changed, done.removed) == (400, 40, 200)
    scratch = Index.build(store, tmp_path / "scratch.index", spec)
    queries = clustered(200, DIM, seed=1)
    true = best_rows(all_scores(queries, after[AFTER], spec.metric), 10) + AFTER.start
    recalls = []
    for path in (index, scratch):
        with Index.open(path) as opened:
            assert len(opened) == COUNT - 200
            found = opened.search(queries, 10)
            recalls.append(
                np.mean([
                    len({f"{row}.jpg" for row in best} & set(ids))
                    for best, ids in zip(true, found.ids, strict=True)
                ])
                / 10
            )  # fmt: skip
            # The changed images have their new embeddings.
            own = opened.search(after[CHANGED], 1)
            assert (
                np.mean([ids == (f"{row}.jpg",) for ids, row in zip(own.ids, CHANGED, strict=True)])
                > 0.9
            )
            assert opened.found_rows().all()
    assert abs(recalls[0] - recalls[1]) <= 0.01
    assert Index.update(index) == IndexUpdate(0, 0, 0)
    # Removed images don't come back, even where one looks for their very embeddings.
    removed = set(names(slice(0, 200)))
    assert not found_by(index, np.concatenate([before[:200], queries])) & removed
    Index.compact(index)
    assert not found_by(index, np.concatenate([before[:200], queries])) & removed


def test_then_more_changes_and_compacting(rows, tmp_path) -> None:
    before, after = rows
    store = write(tmp_path / "a.h5", before, BEFORE)
    index = Index.build(store, tmp_path / "photos.index", SPECS["IVF"])
    write(store, after, AFTER)
    Index.update(index)
    write(store, before, slice(100, 2200))
    done = Index.update(index, measure_recall=False)
    assert (done.added, done.changed, done.removed) == (100, 40, 200)
    assert Index.compact(index) == 200 + 40 + 200 + 40
    assert Index.update(index) == IndexUpdate(0, 0, 0)
    more = write(tmp_path / "b.h5", before, slice(2200, COUNT))
    assert Index.add(index, more) == 200
    assert not found_by(index, before[:100]) & set(names(slice(0, 100)))
    assert found_by(index, before[100:200]) & set(names(slice(100, 200)))  # these are back
    with Index.open(index) as opened:
        ids = {name for row in opened.search(before[100:], 1).ids for name in row}
        assert len(opened) == 2300
        assert len(ids) > 2200
        passing = np.zeros(2300, np.bool_)
        passing[:50] = True
        found = opened.search(before[:9], 5, passing=passing)
        assert {name for row in found.ids for name in row} <= set(names(slice(100, 150)))


def test_what_was_removed_by_its_id_stays_out_as_long_as_it_is_there(rows, tmp_path) -> None:
    before, after = rows
    store = write(tmp_path / "a.h5", before, BEFORE)
    index = Index.build(store, tmp_path / "photos.index", SPECS["HNSW"])
    Index.remove(index, ["300.jpg", "500.jpg"])
    assert Index.update(index) == IndexUpdate(0, 0, 0)
    write(store, after, AFTER)  # 300.jpg has other content now
    done = Index.update(index)
    assert (done.added, done.changed, done.removed) == (400, 39, 200)
    Index.compact(index)
    assert Index.update(index) == IndexUpdate(0, 0, 0)
    with Index.open(index) as opened:
        assert opened.unknown(["300.jpg", "500.jpg"]) == {"300.jpg", "500.jpg"}
    write(store, after, slice(301, COUNT))
    Index.update(index)
    write(store, after, AFTER)  # 300.jpg was gone and comes back
    assert Index.update(index).added == 101
    with Index.open(index) as opened:
        assert opened.unknown(["300.jpg", "500.jpg"]) == {"500.jpg"}


def test_the_hashes_of_the_stores_are_read_once(rows, tmp_path, monkeypatch) -> None:
    before, after = rows
    store = write(tmp_path / "a.h5", before, BEFORE)
    path = Index.build(store, tmp_path / "a.index", SPECS["Flat"])
    write(store, after, AFTER)
    hashes, calls = StoreRows.hashes, []
    monkeypatch.setattr(StoreRows, "hashes", lambda self: calls.append(1) or hashes(self))
    Index.update(path)
    assert len(calls) == 1


def test_drift_is_noticed(tmp_path) -> None:
    rng = np.random.default_rng(0)
    trained = clustered(3000, DIM).astype(np.float16)
    # New images of a kind that the index wasn't trained on: close to each other.
    centre = -4 * trained.mean(axis=0)
    other = (centre + 0.05 * rng.standard_normal((1500, DIM))).astype(np.float16)
    spec = IndexSpec(factory="IVF64,PQ4x4", rerank=False, recall=0.9)
    ids = [f"{row}.jpg" for row in range(4500)]
    store = write_rows(tmp_path / "a.h5", trained, ids[:3000])
    index = Index.build(store, tmp_path / "photos.index", spec)
    write_rows(store, np.concatenate([trained, other[:700]]), ids[:3700])
    Index.update(index)
    write_rows(store, np.concatenate([trained, other]), ids)
    done = Index.update(index)
    assert done.recall is not None
    assert done.needs_training


def test_what_cannot_be_updated(rows, tmp_path) -> None:
    before, _ = rows
    store = write(tmp_path / "a.h5", before, BEFORE)
    index = Index.build(store, tmp_path / "photos.index", SPECS["Flat"])
    content = {path.name: path.read_bytes() for path in index.iterdir()}
    write_store(store, before[:50], ids=names(slice(0, 50)), backbone="other")
    with pytest.raises(StoreMismatchError, match="backbone"):
        Index.update(index)
    write_store(store, before[:2], ids=["a", "a"])
    with pytest.raises(Exception, match="more than once"):
        Index.update(index)
    store.unlink()
    with pytest.raises(IndexFileError, match="isn't there"):
        Index.update(index)
    assert {path.name: path.read_bytes() for path in index.iterdir()} == content
    write(store, before, AFTER)
    manifest = IndexManifest.read(index / MANIFEST)
    files = {role: entry for role, entry in manifest.files.items() if role != "hashes"}
    change_generation(index, replace(manifest, files=files))
    with pytest.raises(IndexFileError, match="no record of its images' content"):
        Index.update(index)
