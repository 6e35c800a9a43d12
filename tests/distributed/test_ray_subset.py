"""Subsets whose neighbors are found on Ray: those of one process; workers that die."""

import os
import signal

import numpy as np
import pytest
from ray_nodes import marks, worker_processes
from stores import write_store
from vectors import clustered

from embedkit import select_subset
from embedkit.errors import WorkerError
from embedkit.index import graph_passes, knn_graph

pytest.importorskip("ray")

pytestmark = [*marks(), pytest.mark.usefixtures("one_core")]
DIM, ROWS = 24, 8000


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    labels = [f"part {row % 3}" for row in range(ROWS)]
    path = tmp_path_factory.mktemp("store") / "a.h5"
    return write_store(path, clustered(ROWS, DIM).astype(np.float16), labels=labels)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """So that 8,000 rows are 80 cells, read by tasks of 1,000 rows; workers read larger blocks."""
    monkeypatch.setattr(knn_graph, "_EXACT_BYTES", 1000)
    monkeypatch.setattr(knn_graph, "_LEAST_ROWS", 100)
    monkeypatch.setattr(graph_passes, "_BLOCK_BYTES", 4 * DIM * 125)


def same(mine, theirs):
    np.testing.assert_array_equal(mine.rows, theirs.rows)
    np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-5)
    assert mine.groups == theirs.groups
    assert mine.coverage == theirs.coverage


@pytest.mark.parametrize("method", ["representative", "unique"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"filters": ("label=part 1",), "per_class": 30, "seed_from": ("1.jpg", "7.jpg")}],
    ids=["all", "some"],
)
def test_the_selection_of_one_process(store, cluster, method, settings):
    told = []
    spread = select_subset(
        store, method, 50, ray=cluster, workers=2, progress=told.append, **settings
    )
    same(select_subset(store, method, 50, **settings), spread)
    assert len(spread.rows) == (28 if settings else 50)  # two of 30 were chosen before
    assert sum(one.stage == "finding neighbors" for one in told) > 20


def test_a_worker_that_is_killed(store, cluster):
    killed = []

    def kill(progress):
        if progress.stage == "finding neighbors" and progress.done > 2000 and not killed:
            killed.extend(worker_processes(b"Worker")[:1])
            os.kill(killed[0], signal.SIGKILL)

    spread = select_subset(store, "representative", 50, ray=cluster, workers=2, progress=kill)
    assert killed
    same(select_subset(store, "representative", 50), spread)


def test_another_store_in_its_place(cluster, tmp_path):
    path = write_store(tmp_path / "b.h5", clustered(ROWS, DIM).astype(np.float16))
    told = []

    def replace(progress):
        if not told:
            told.append(progress)
            path.unlink()
            write_store(path, clustered(ROWS, DIM, seed=1).astype(np.float16))

    with pytest.raises(WorkerError, match="another store than the driver's lies there"):
        select_subset(path, "unique", 5, ray=cluster, workers=1, progress=replace)


def test_settings_that_contradict_each_other(store):
    with pytest.raises(ValueError, match="workers goes with ray only"):
        select_subset(store, "unique", 2, workers=2)
    with pytest.raises(ValueError, match="ray goes with representative and unique only"):
        select_subset(store, "diverse", 2, ray="local")
