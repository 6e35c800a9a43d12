"""Choosing, building, resuming, lists on disk; what is refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stores import write_store
from vectors import all_scores, best_rows, clustered

from embedkit.errors import IndexCorruptError, IndexFileError, IndexMismatchError
from embedkit.index import Index, IndexSpec
from embedkit.index.auto_select import choose

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_core")

DIM = 32
MB = 10**6


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    return clustered(count, DIM, seed=seed).astype(np.float16)


def ids_of(best: np.ndarray) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"{row}.jpg" for row in one) for one in best)


def recall(found, best: np.ndarray) -> float:
    wanted = [{f"{row}.jpg" for row in one} for one in best]
    return float(
        np.mean([len(w & set(ids)) / len(w) for ids, w in zip(found, wanted, strict=True)])
    )


@pytest.mark.parametrize(
    ("count", "dim", "settings", "factory", "rerank"),
    [
        (500, 512, {}, "Flat", False),
        (30_000, 512, {}, "Flat", False),
        (1_000_000, 512, {}, "IVF4096,PQ128x4fs", True),
        (1_000_000, 512, {"rerank": False}, "HNSW32", False),
        (1_000_000, 512, {"rerank": False, "memory": 1100 * MB}, "IVF4096,SQfp16", False),
        (1_000_000, 512, {"memory": 20 * MB}, "OPQ16_64,IVF4096,PQ16x4fs", True),
        (1_000_000, 512, {"latency": 300.0}, "Flat", False),
        (1_000_000, 512, {"on_disk": True}, "IVF4096,SQ8", True),
        (200_000, 2048, {"whiten": 256}, "IVF2048,PQ64x4fs", True),
    ],
)
def test_what_is_chosen(count, dim, settings, factory, rerank) -> None:
    choice = choose(IndexSpec(**settings), count, dim)
    assert (choice.factory, choice.rerank) == (factory, rerank)
    if "memory" in settings:
        assert choice.nbytes <= settings["memory"]
    assert choice.build_bytes >= choice.nbytes


def test_too_little_memory_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="the smallest index takes"):
        choose(IndexSpec(memory=1 * MB), 1_000_000, 512)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF16,SQ8", "IVF16,PQ8x4fs", "PQ8x4fs"])
def test_the_memory_that_is_foretold_is_what_the_index_takes(tmp_path: Path, factory: str) -> None:
    store = write_store(tmp_path / "photos.h5", rows_of(6000))
    spec = IndexSpec(factory=factory)
    choice = Index.choose(store, spec)
    index = Index.open(Index.build(store, tmp_path / "photos.index", spec))
    size = index.manifest.bytes_per_vector * len(index)
    assert size == pytest.approx(choice.nbytes, rel=0.1)


@pytest.mark.parametrize(
    ("factory", "metric", "told"),
    [
        ("IVF16,Nonsense", "cosine", "faiss makes no"),
        ("PQ7x4fs", "cosine", "faiss makes no"),
        ("IDMap,Flat", "cosine", "without IDMap"),
        ("ZnLattice4x8_6", "l2", "can't read it"),
        ("IVF4096,Flat", "cosine", "can't be built of 300 rows"),
    ],
)
def test_factories_that_cannot_be(tmp_path: Path, factory: str, metric: str, told: str) -> None:
    store = write_store(tmp_path / "photos.h5", rows_of(300))
    with pytest.raises(ValueError, match=told):
        Index.build(store, tmp_path / "photos.index", IndexSpec(factory=factory, metric=metric))
    assert [path.name for path in tmp_path.iterdir()] == ["photos.h5"]


def test_lists_on_disk_are_searched_there(tmp_path: Path) -> None:
    rows, queries = rows_of(3000), clustered(100, DIM, seed=1)
    store = write_store(tmp_path / "photos.h5", rows)
    spec = IndexSpec(factory="IVF16,SQ8", on_disk=True, recall=0.99)
    index = Index.open(Index.build(store, tmp_path / "photos.index", spec))
    assert (index.path / "lists.bin").stat().st_size > (index.path / "index.faiss").stat().st_size
    best = best_rows(all_scores(queries, rows, "cosine"), 10)
    assert recall(index.search(queries).ids, best) > 0.95
    moved = index.path.rename(tmp_path / "moved.index")  # with its store beside it
    assert Index.open(moved).search(queries).ids == index.search(queries).ids
    with (moved / "lists.bin").open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(IndexCorruptError, match=r"lists\.bin"):
        Index.open(moved)


def test_a_store_that_is_gone_or_other(tmp_path: Path) -> None:
    store = write_store(tmp_path / "photos.h5", rows_of(2000))
    index = Index.build(store, tmp_path / "photos.index", IndexSpec(factory="PQ8x4fs"))
    write_store(store, rows_of(2000, seed=5))
    with pytest.raises(IndexMismatchError, match="has changed since"):
        Index.open(index)
    store.unlink()
    with pytest.raises(IndexFileError, match="put the store back"):
        Index.open(index)


@pytest.mark.parametrize("factory", ["IVF16,PQ8x4fs", "HNSW16", "IVF16,SQ8"])
def test_what_passes_is_found_and_nothing_else(tmp_path: Path, factory: str) -> None:
    rows, queries = rows_of(3000), clustered(60, DIM, seed=1)
    store = write_store(tmp_path / "photos.h5", rows)
    index = Index.open(Index.build(store, tmp_path / "photos.index", IndexSpec(factory=factory)))
    scores = all_scores(queries, rows, "cosine")
    for share, least in ((0.5, 0.9), (0.02, 0.9)):
        passing = np.random.default_rng(3).random(3000) < share
        best = best_rows(np.where(passing, scores, -np.inf), 10)
        found = index.search(queries, 10, passing=passing)
        assert all(passing[int(name[:-4])] for ids in found.ids for name in ids)
        if not (factory == "HNSW16" and share < 0.1):  # looks no further than its breadth
            assert recall(found.ids, best) > least
    none = index.search(queries, 3, passing=np.zeros(3000, bool))
    assert none.ids == ((),) * 60
    with pytest.raises(ValueError, match="passing"):
        index.search(queries, 3, passing=np.ones(7, bool))


def test_exact_indexes_filter_exactly(tmp_path: Path) -> None:
    rows, queries = rows_of(2000), clustered(30, DIM, seed=1)
    for metric in ("cosine", "l2"):
        store = write_store(tmp_path / f"{metric}.h5", rows)
        index = Index.open(Index.build(store, tmp_path / metric, metric=metric))
        scores = all_scores(queries, rows, metric)
        for share in (0.6, 0.05):
            passing = np.random.default_rng(3).random(2000) < share
            masked = np.where(passing, scores, -np.inf)
            found = index.search(queries, 5, passing=passing)
            assert found.ids == ids_of(best_rows(masked, 5))
            expected = np.take_along_axis(masked, best_rows(masked, 5), 1)
            np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-3)


_BUILD = """
import sys
from embedkit.index import Index, IndexSpec
import embedkit.index.add_vectors as encode
encode._PART_BYTES = encode._BLOCK_BYTES = 2**16
encode._SAVE_SECONDS = 0.0
encode._SAVE_SHARE = 1.0
def tell(progress):
    print(progress.stage, progress.done, flush=True)
Index.build(sys.argv[1], sys.argv[2], IndexSpec(factory=sys.argv[3]), progress=tell)
"""


def _files(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"  # it holds times
    }


@pytest.mark.parametrize("factory", ["IVF16,SQ8", "OPQ8,IVF16,PQ8x4fs", "HNSW8"])
def test_a_killed_build_goes_on(tmp_path: Path, factory: str) -> None:
    store = write_store(tmp_path / "photos.h5", rows_of(6000))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _BUILD, store, tmp_path / name, factory]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    with start("whole") as whole:
        whole.communicate()
    assert whole.returncode == 0
    adds = 0
    while True:
        process, first = start("killed"), 0
        assert process.stdout is not None
        for line in process.stdout:
            stage, done = line.rsplit(" ", 1)
            if stage == "adding":
                first = first or int(done)  # a stage begins with a report of 0
                adds += 1
                if adds in {5, 10}:  # each run begins with what was saved
                    process.send_signal(signal.SIGKILL)
                    break
        process.stdout.close()
        if process.wait() == 0:
            break
        time.sleep(0.05)
    assert first > 6000 // 16  # the last run didn't begin with the first rows
    if factory == "HNSW8":  # whose random levels begin anew
        found = Index.open(tmp_path / "killed").search(rows_of(6000)[::50], 1).ids
        assert np.mean([ids == (f"{50 * n}.jpg",) for n, ids in enumerate(found)]) > 0.95
    else:
        assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert not (tmp_path / "killed.partial").exists()


def test_another_plan_does_not_go_on(tmp_path: Path) -> None:
    store = write_store(tmp_path / "photos.h5", rows_of(1000))

    class StopError(Exception):
        pass

    def stop(progress) -> None:
        if progress.stage == "adding":
            raise StopError

    output = tmp_path / "photos.index"
    with pytest.raises(StopError):
        Index.build(store, output, IndexSpec(factory="IVF8,SQ8"), progress=stop)
    with pytest.raises(IndexFileError, match="factory, spec differ"):
        Index.build(store, output, IndexSpec(factory="IVF9,SQ8"))
    Index.build(store, output, IndexSpec(factory="IVF9,SQ8"), overwrite=True)
    assert Index.open(output).factory == "IVF9,SQ8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos.h5", "photos.index"]


def test_arrays_in_a_file_may_not_claim_what_they_like(tmp_path: Path, monkeypatch) -> None:
    import faiss

    store = write_store(tmp_path / "photos.h5", rows_of(100))
    index = Index.build(store, tmp_path / "photos.index")
    limits = []
    read = faiss.read_index

    def watched(*args):
        limits.append(faiss.get_deserialization_vector_byte_limit())
        return read(*args)

    monkeypatch.setattr(faiss, "read_index", watched)
    before = faiss.get_deserialization_vector_byte_limit()
    Index.open(index)
    size = (index / "index.faiss").stat().st_size
    assert limits == [max(128 * size, 2**20)]
    assert faiss.get_deserialization_vector_byte_limit() == before


@pytest.mark.parametrize(
    "factory",
    ["NSG32", "NSG0", "HNSW0", "HNSW1", "IVF0,Flat", "IVF64,Flat", "PQ4", "IVF99999999,Flat",
     "IVF4_HNSW0,Flat", "PCA64,Flat", "OPQ4,PQ4"],
)  # fmt: skip
def test_what_faiss_cannot_build_is_refused_and_leaves_nothing(tmp_path, factory):
    store = write_store(tmp_path / "a.h5", clustered(20, 32))
    with pytest.raises(ValueError, match=factory.split(",")[0]) as caught:
        Index.build(store, tmp_path / "a.index", IndexSpec(factory=factory))
    assert "faiss/impl" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("count", [1, 5, 20, 150])
def test_few_rows_on_disk(tmp_path, count):
    rows = clustered(count, 32)
    store = write_store(tmp_path / "a.h5", rows)
    with Index.open(Index.build(store, tmp_path / "a.index", IndexSpec(on_disk=True))) as index:
        assert index.search(rows, 1).ids == tuple((f"{row}.jpg",) for row in range(count))


def test_a_store_is_searched_exactly(tmp_path):
    rows = clustered(3000, 32)
    queries = rows[:7] + 0.01
    store = write_store(tmp_path / "a.h5", rows[:3000])
    flat = Index.open(Index.build(store, tmp_path / "a.index", IndexSpec(factory="Flat")))
    passing = np.arange(3000) % 3 == 0
    with Index.open(store) as exact:
        for mask in (None, passing):
            mine, theirs = (one.search(queries, 12, passing=mask) for one in (exact, flat))
            assert mine.ids == theirs.ids
            np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-5)
        with pytest.raises(ValueError, match="searched exactly"):
            exact.evaluate(queries)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,SQ8"])
@pytest.mark.parametrize("rerank", [False, True])
def test_a_store_that_was_made_anew_refuses_every_index(tmp_path, factory, rerank):
    rows = clustered(300, 32)
    store = write_store(tmp_path / "a.h5", rows)
    index = Index.build(store, tmp_path / "a.index", IndexSpec(factory=factory, rerank=rerank))
    more = write_store(tmp_path / "b.h5", rows[:9], ids=list("abcdefghi"))
    write_store(store, rows[:200])
    for use in (
        lambda: Index.open(index),
        lambda: Index.open(index, check="fast"),
        lambda: Index.add(index, more),
        lambda: Index.remove(index, ["1.jpg"]),
    ):
        with pytest.raises(IndexMismatchError, match=r"a\.h5 has changed since; bring the index"):
            use()
    store.unlink()
    if not rerank:
        assert len(Index.open(index)) == 300  # a store that is gone is no other one
