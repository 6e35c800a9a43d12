"""Stores added, images removed, what was removed left out for good; against brute force."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stores import write_store
from vectors import all_scores, best_rows, clustered

from embedkit.errors import IndexFileError, StoreMismatchError
from embedkit.index import Index, IndexSpec

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_core")

DIM = 32
SPECS = {
    "Flat": IndexSpec(factory="Flat"),
    "HNSW": IndexSpec(factory="HNSW16", recall=0.98),
    "IVF": IndexSpec(factory="IVF16,SQ8", metric="l2", recall=0.98),
    "fast scan, whitened": IndexSpec(factory="IVF16,PQ8x4fs", whiten=16, recall=0.98),
    "on disk": IndexSpec(factory="IVF16,SQ8", on_disk=True, recall=0.98),
    "PQ": IndexSpec(factory="PQ16x4fs", metric="ip", recall=0.98),
}


@pytest.fixture(params=SPECS)
def world(request, tmp_path):
    """An index of store a, and store b beside it; each row's id is its number over both."""
    spec = SPECS[request.param]
    rows = clustered(3000, DIM).astype(np.float16)
    names = [f"{row}.jpg" for row in range(3000)]
    first = write_store(tmp_path / "a.h5", rows[:2000], ids=names[:2000])
    second = write_store(tmp_path / "b.h5", rows[2000:], ids=names[2000:])
    index = Index.build(first, tmp_path / "photos.index", spec)
    return index, spec, rows, second


def check(index: Index, spec: IndexSpec, rows: np.ndarray, there: np.ndarray) -> None:
    """What is found is there, has its score, and is nearly all that should be found."""
    queries = clustered(150, DIM, seed=1)
    assert len(index) == there.sum()
    found = index.search(queries, 10)
    if spec.whiten is None:
        scores = np.where(there, all_scores(queries, rows, spec.metric), -np.inf)
        wanted = best_rows(scores, 10)
        for ids, near, row in zip(found.ids, found.scores, scores, strict=True):
            mine = [int(name[:-4]) for name in ids]
            np.testing.assert_allclose(near[: len(mine)], row[mine], rtol=1e-3, atol=1e-3)
        hit = [
            len({f"{r}.jpg" for r in w} & set(i)) for w, i in zip(wanted, found.ids, strict=True)
        ]
        assert np.mean(hit) > 9.3
    assert all(there[int(name[:-4])] for ids in found.ids for name in ids)
    # What is there finds itself.
    if spec.metric != "ip":
        some = np.flatnonzero(there)[::37]
        own = index.search(rows[some], 1).ids
        assert np.mean([ids == (f"{row}.jpg",) for ids, row in zip(own, some, strict=True)]) > 0.95


def test_add_remove_compact(world) -> None:
    path, spec, rows, second = world
    there = np.arange(3000) < 2000
    before = Index.open(path)
    assert Index.add(path, second) == 1000
    check(before, spec, rows, there)  # stays what it was
    there[:] = True
    after = Index.open(path)
    check(after, spec, rows, there)
    gone = [3, 77, 1999, 2000, 2500, *range(100, 160)]
    assert Index.remove(path, [f"{row}.jpg" for row in gone]) == len(gone)
    check(after, spec, rows, there)
    there[gone] = False
    removed = Index.open(path)
    check(removed, spec, rows, there)
    old = removed.manifest.files["index"].name
    assert Index.compact(path) == len(gone)
    there_now = Index.open(path)
    check(there_now, spec, rows, there)
    assert (there_now.manifest.count, there_now.manifest.removed) == (3000 - len(gone), 0)
    assert not (path / old).exists()
    assert {p.name for p in path.iterdir()} == {
        "manifest.json",
        *(entry.name for entry in there_now.manifest.files.values()),
    }
    assert Index.compact(path) == 0


def test_ids_that_are_not_there_remove_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.h5", clustered(50, DIM))
    index = Index.build(store, tmp_path / "a.index")
    with pytest.raises(ValueError, match=r"no image 'nobody'"):
        Index.remove(index, ["7.jpg", "nobody"])
    assert len(Index.open(index)) == 50
    assert Index.remove(index, ["7.jpg"]) == 1
    with pytest.raises(ValueError, match=r"no image '7.jpg'"):
        Index.remove(index, ["7.jpg"])
    assert Index.remove(index, [f"{row}.jpg" for row in range(50) if row != 7]) == 49
    empty = Index.open(index)
    assert empty.search(clustered(2, DIM), 3).ids == ((), ())
    assert Index.compact(index) == 50
    assert len(Index.open(index)) == 0


def test_what_cannot_be_added(tmp_path: Path) -> None:
    first = write_store(tmp_path / "a.h5", clustered(300, DIM))
    index = Index.build(first, tmp_path / "a.index", IndexSpec(factory="IVF8,SQ8"))
    with pytest.raises(IndexFileError, match="is in it already"):
        Index.add(index, first)
    other = write_store(tmp_path / "b.h5", clustered(9, DIM, seed=4), backbone="other")
    with pytest.raises(StoreMismatchError, match="backbone"):
        Index.add(index, other)
    graph = Index.build(first, tmp_path / "n.index", IndexSpec(factory="NSG8"))
    with pytest.raises(IndexFileError, match="build it again"):
        Index.add(
            graph, write_store(tmp_path / "c.h5", clustered(9, DIM, seed=4), ids=list("abcdefghi"))
        )
    assert len(Index.open(index)) == len(Index.open(graph)) == 300
    assert not list(tmp_path.glob("*.partial"))


def test_a_failure_in_the_middle_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch) -> None:
    first = write_store(tmp_path / "a.h5", clustered(300, DIM))
    ids = [f"new/{row}.jpg" for row in range(90)]
    second = write_store(tmp_path / "b.h5", clustered(90, DIM, seed=4), ids=ids)
    index = Index.build(first, tmp_path / "a.index", IndexSpec(factory="IVF8,SQ8"))

    def fail(progress) -> None:
        if progress.stage == "writing ids":
            raise OSError(28, "No space left on device")

    with pytest.raises(IndexFileError, match="No space left"):
        Index.add(index, second, progress=fail)
    assert len(Index.open(index)) == 300
    assert Index.add(index, second) == 90  # and clears up what was left
    assert len(Index.open(index)) == 390


def test_searching_while_adding_sees_all_or_none(tmp_path: Path) -> None:
    rows = clustered(1200, DIM)
    first = write_store(tmp_path / "a.h5", rows[:1000])
    second = write_store(tmp_path / "b.h5", rows[1000:], ids=[f"n{row}" for row in range(200)])
    index = Index.build(first, tmp_path / "a.index", IndexSpec(factory="IVF8,SQ8", recall=0.99))
    sizes, ended = set(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            with Index.open(index) as opened:
                new = [ids[0].startswith("n") for ids in opened.search(rows[1000:1050], 1).ids]
                sizes.add((len(opened), round(np.mean(new))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        Index.add(index, second)
    finally:
        ended.set()
        watcher.join()
    assert sizes <= {(1000, 0), (1200, 1)}
    assert sizes
