"""Clusters found on Ray: those of one process but for rounding; workers that die."""

import os
import signal

import numpy as np
import pytest
from ray_nodes import marks, worker_processes
from stores import write_store
from vectors import clustered

from embedkit import cluster as find_clusters
from embedkit.analysis.clustering import ray_passes
from embedkit.errors import WorkerError
from embedkit.types import Head

pytest.importorskip("ray")

pytestmark = [*marks(), pytest.mark.usefixtures("one_core")]
DIM, ROWS, K = 24, 30_000, 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = clustered(ROWS, DIM).astype(np.float16)
    weight = np.random.default_rng(3).standard_normal((5, DIM)).astype(np.float32)
    head = Head(weight, np.zeros(5, np.float32), tuple("abcde"), ())
    labels = [f"part {row % 3}" for row in range(ROWS)]
    path = tmp_path_factory.mktemp("store") / "a.h5"
    return write_store(path, rows, labels=labels, head=head)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """So that 30,000 rows are 30 tasks a pass."""
    monkeypatch.setattr(ray_passes, "_TASK_BYTES", 4 * DIM * 1000)


def same_clusters(mine, theirs):
    """But for rows between two centers."""
    np.testing.assert_allclose(mine.centers, theirs.centers, atol=1e-3)
    np.testing.assert_array_equal(mine.rows, theirs.rows)
    assert (mine.clusters == theirs.clusters).mean() > 0.999
    np.testing.assert_allclose(mine.distances, theirs.distances, atol=1e-3)
    assert mine.names == theirs.names


@pytest.mark.parametrize("filters", [(), ("label=part 1",)], ids=["all", "some"])
def test_the_clusters_of_one_process(store, cluster, filters):
    told = []
    spread = find_clusters(store, K, filters=filters, ray=cluster, workers=2, progress=told.append)
    same_clusters(find_clusters(store, K, filters=filters), spread)
    assert len(spread.rows) == (ROWS // 3 if filters else ROWS)
    assert sum(one.stage == "assigning clusters" for one in told) > 8


def test_a_worker_that_is_killed(store, cluster):
    killed = []

    def kill(progress):
        if progress.stage == "training" and progress.done > 40_000 and not killed:
            killed.extend(worker_processes(b"Worker")[:1])
            os.kill(killed[0], signal.SIGKILL)

    spread = find_clusters(store, K, ray=cluster, workers=2, progress=kill)
    assert killed
    same_clusters(find_clusters(store, K), spread)


def test_another_store_in_its_place(cluster, tmp_path):
    path = write_store(tmp_path / "b.h5", clustered(ROWS, DIM).astype(np.float16))
    told = []

    def replace(progress):
        if progress.stage == "clustering a sample" and not told:
            told.append(progress)
            path.unlink()
            write_store(path, clustered(ROWS, DIM, seed=1).astype(np.float16))

    with pytest.raises(WorkerError, match="another store than the driver's lies there"):
        find_clusters(path, K, ray=cluster, workers=1, progress=replace)


def test_settings_that_contradict_each_other(store):
    with pytest.raises(ValueError, match="workers goes with ray only"):
        find_clusters(store, 2, workers=2)
