"""An index whose rows are added on Ray: that of one process; workers that die; wrong settings."""

import os
import signal

import numpy as np
import pytest
from ray_nodes import marks, worker_processes
from stores import write_store
from vectors import clustered

from embedkit.errors import WorkerError
from embedkit.index import Index, IndexSpec, add_vectors, ray_parts

pytest.importorskip("ray")

pytestmark = [*marks(), pytest.mark.usefixtures("one_core")]
DIM, ROWS = 32, 6000


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("stores"), clustered(ROWS, DIM).astype(np.float16)
    ids = [f"{row}.jpg" for row in range(ROWS)]
    return [
        write_store(folder / "a.h5", rows[:1000], ids=ids[:1000]),
        write_store(folder / "b.h5", rows[1000:], ids=ids[1000:]),
    ]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that 6,000 rows are 24 parts."""
    monkeypatch.setattr(add_vectors, "_BLOCK_BYTES", 4 * DIM * 256)


def same_answers(first, second):
    queries = clustered(300, DIM, seed=1)
    with Index.open(first) as one, Index.open(second) as other:
        mine, theirs = one.search(queries, 10), other.search(queries, 10)
        np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-5)
        assert mine.ids == theirs.ids
        assert len(one) == len(other) == ROWS


@pytest.mark.parametrize(
    "settings",
    [
        {"factory": "IVF32,PQ16x4fs"},
        {"factory": "OPQ8,IVF32,PQ8x4fs", "metric": "l2", "whiten": 16},
        {"factory": "IVF32,SQ8", "on_disk": True},
        {"factory": "IVF32,Flat", "metric": "ip", "rerank": False},
    ],
    ids=lambda settings: settings["factory"],
)
def test_the_index_of_one_process(stores, cluster, tmp_path, settings):
    spec, told = IndexSpec(recall=1, **settings), []
    plain = Index.build(stores, tmp_path / "plain", spec)
    spread = Index.build(
        stores, tmp_path / "spread", spec, ray=cluster, workers=2, progress=told.append
    )
    same_answers(plain, spread)
    added = [progress for progress in told if progress.stage == "adding"]
    assert len(added) > 20
    assert not spread.with_name("spread.partial").exists()


def test_a_worker_that_is_killed_and_a_driver_that_ends(stores, cluster, tmp_path):
    spec, killed = IndexSpec(factory="IVF32,PQ16x4fs", recall=1), []

    class EndError(Exception):
        pass

    def kill(progress):
        if progress.stage != "adding":
            return
        if progress.done > 500 and not killed:
            killed.extend(worker_processes(b"Worker", b"add rows")[:1])
            os.kill(killed[0], signal.SIGKILL)
        if progress.done > 3000:
            raise EndError

    with pytest.raises(EndError):
        Index.build(stores, tmp_path / "spread", spec, ray=cluster, workers=2, progress=kill)
    parts = {path.name for path in (tmp_path / "spread.partial").glob("part-*.faiss")}
    assert 12 <= len(parts) < 24
    first = []
    Index.build(  # by one process, which uses the parts
        stores, tmp_path / "spread", spec,
        progress=lambda progress: progress.stage == "adding" and first.append(progress.done),
    )  # fmt: skip
    assert killed
    assert len(first) < 24
    same_answers(Index.build(stores, tmp_path / "plain", spec), tmp_path / "spread")


def test_what_is_no_index_of_parts_is_built_here(stores, tmp_path, caplog):
    spec = IndexSpec(factory="HNSW8")
    index = Index.build(stores, tmp_path / "graph", spec, ray="nowhere:1")
    assert "HNSW8 can't be built in parts: this process does it" in caplog.text
    assert len(Index.open(index)) == ROWS


def test_a_worker_that_does_not_see_the_stores(stores, cluster, tmp_path, monkeypatch):
    class Elsewhere:
        cwd = staticmethod(lambda: "/nowhere/at/all")

    monkeypatch.setattr(ray_parts, "Path", Elsewhere)
    with pytest.raises(WorkerError, match=r"doesn't see /nowhere/at/all; all machines"):
        Index.build(stores, tmp_path / "x", IndexSpec(factory="IVF8,SQ8"), ray=cluster, workers=1)


def test_settings_that_contradict_each_other(stores, tmp_path):
    with pytest.raises(ValueError, match="workers goes with ray only"):
        Index.build(stores, tmp_path / "x", workers=2)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        Index.build(stores, tmp_path / "x", ray="local", workers=0)
