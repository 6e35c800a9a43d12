"""Near-duplicates on Ray: the pairs of one process, and of the exact join at the stated recall."""

import logging
import os
import signal

import numpy as np
import pytest
from images import write_photos
from PIL import Image
from ray_nodes import marks, worker_processes
from stores import write_store
from vectors import photo_like

from embedkit import extract, find_duplicates
from embedkit.dedup.candidates import ivf_join, ranked_pairs, ray_cells
from embedkit.dedup.candidates.neighbours import nearest, vectors_of
from embedkit.dedup.candidates.ray_nearest import RayNearest
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.find_pairs import find_pairs
from embedkit.dedup.scoring.background import Whitening
from embedkit.dedup.unit_rows import UnitRows
from embedkit.dedup.verification import ray_comparer
from embedkit.distributed.cluster import RayCluster
from embedkit.errors import EmbedkitError, WorkerError
from embedkit.store import EmbeddingStore

pytest.importorskip("ray")

pytestmark = marks(1800)
DIM = 64
SETTINGS = {"min_cosine": 0.9, "threshold": 0.0, "max_hamming": None}


@pytest.fixture
def small_cells(monkeypatch):
    """So that a few thousand rows are in many cells, and their recall is measured in many tasks."""
    monkeypatch.setattr(ivf_join, "_LEAST_ROWS", 250)
    monkeypatch.setattr(ivf_join, "_MOST_ROWS", 250)
    monkeypatch.setattr(ray_cells, "_ROWS_AT_ONCE", 1000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("a") / "a.h5", photo_like(5000, DIM, 0))


def keys(pairs):
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def compared(found, exact):
    """Checks what was found against the exact pairs; returns the share that was found."""
    assert keys(found) <= keys(exact)
    cosines = dict(zip(zip(exact.first, exact.second, strict=True), exact.cosine, strict=True))
    expected = [cosines[key] for key in zip(found.first, found.second, strict=True)]
    np.testing.assert_array_equal(found.cosine, expected)
    return len(found) / len(exact)


@pytest.mark.usefixtures("small_cells")
def test_the_pairs_of_one_process_with_a_killed_worker(store, cluster, tmp_path):
    exact = find_pairs(store, DedupConfig(mode="exact", **SETTINGS))
    here = find_pairs(store, DedupConfig(mode="approximate", **SETTINGS))
    killed, settings = [], {"verify": False, "ray": cluster, "workers": 2, **SETTINGS}

    def kill(progress):
        if progress.stage == "comparing cells" and progress.done > 3 and not killed:
            killed.extend(worker_processes(b"Worker", b"compare cell")[:1])
            os.kill(killed[0], signal.SIGKILL)

    found = find_duplicates(store, progress=kill, **settings).pairs
    assert killed
    share = compared(found, exact)
    assert 0.8 < share < 1  # some pairs are in no common cell
    assert found.info.mode == "approximate"
    assert found.info.recall == pytest.approx(share, abs=0.02)
    assert keys(found) == keys(here)
    np.testing.assert_array_equal(found.score, here.score)


@pytest.mark.usefixtures("small_cells")
def test_two_stores(store, cluster, tmp_path):
    rows = photo_like(5000, DIM, 0)[1000:2000]
    hashes = [b"%032d" % row for row in range(len(rows))]
    other = write_store(tmp_path / "b.h5", rows * np.float16(0.5), content_hash=hashes)
    exact = find_pairs(store, DedupConfig(mode="exact", **SETTINGS), against=other)
    settings = {"verify": False, "ray": cluster, "workers": 2, **SETTINGS}
    found = find_duplicates(store, against=other, **settings).pairs
    share = compared(found, exact)
    assert 0.8 < share <= 1
    assert found.info.recall == pytest.approx(share, abs=0.02)


def test_one_cell_is_exact(store, cluster):
    found = find_duplicates(store, verify=False, ray=cluster, workers=1, **SETTINGS).pairs
    assert compared(found, find_pairs(store, DedupConfig(mode="exact", **SETTINGS))) == 1
    assert found.info.recall == 1


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty photos, and copies of the first twenty, some of them mirrored."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 40)
    for number in range(20):
        photo = Image.open(folder / f"photo_{number:04d}.jpg")
        copy = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 5 == 0 else photo
        copy.resize((240, 180)).save(folder / f"copy_{number:04d}.jpg", quality=70)
    path = folder.with_suffix(".h5")
    extract(folder, path, backbone="tiny", engine="openvino", device="cpu", decoder="exact")
    return path


def test_pixels_are_compared_on_ray(photos, cluster, monkeypatch):
    monkeypatch.setattr(ranked_pairs, "EXACT_ROWS", 10)  # so that workers find the candidates
    here = find_duplicates(photos, verify=True)
    there = find_duplicates(photos, verify=True, ray=cluster, workers=2)
    assert 10 < len(here.pairs) < 100
    for column in ("first", "second", "score", "verified"):
        np.testing.assert_array_equal(
            getattr(there.pairs, column), getattr(here.pairs, column), column
        )
    np.testing.assert_array_equal(there.groups.node, here.groups.node)


@pytest.mark.usefixtures("small_cells")
@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_the_nearest_rows_within_cells(store, cluster, tmp_path, whitened, two):
    part = photo_like(5000, DIM, 0)[1000:2500] * np.float16(0.5)
    other = write_store(tmp_path / "b.h5", part) if two else store
    with EmbeddingStore.open(store) as one, EmbeddingStore.open(other) as second:
        rows = UnitRows(one.embeddings)
        others = UnitRows(second.embeddings) if two else rows
        whitening = Whitening.learn(rows.sample(1000)) if whitened else None
        finder = RayNearest(RayCluster(cluster, 2), [one, second], others if two else None)
        found, cosines = finder(rows, others, 5, whitening)
        exact, true = nearest(
            vectors_of(rows, whitening), vectors_of(others, whitening), 5, exact=True
        )
    first = found[:, 0] == exact[:, 0]
    assert first[1000:2500].mean() > 0.95  # which is the row itself
    np.testing.assert_allclose(cosines[first, 0], true[first, 0], atol=1e-5)
    is_copy = first & (true[:, 1] > 0.9)
    assert (found[is_copy, 1] == exact[is_copy, 1]).mean() > 0.8
    assert (found.max(axis=1) < len(others)).all()
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


def test_a_worker_that_compares_pixels_is_killed(photos, cluster, tmp_path):
    killed = []

    def kill(progress):
        if progress.stage == "verifying pairs" and progress.done and not killed:
            killed.extend(worker_processes(b"Worker", b"compare pixels"))
            os.kill(killed[0], signal.SIGKILL)

    settings = {"verify": True, "ray": cluster, "workers": 2, "output": tmp_path / "found"}
    found = find_duplicates(photos, progress=kill, **settings)
    assert killed
    assert keys(found.pairs) == keys(find_duplicates(photos, verify=True).pairs)


def test_images_that_a_worker_does_not_see(photos, cluster, monkeypatch):
    class Elsewhere:
        cwd = staticmethod(lambda: "/nowhere/at/all")

    monkeypatch.setattr(ray_comparer, "Path", Elsewhere)
    with pytest.raises(WorkerError, match=r"doesn't see /nowhere/at/all; all machines"):
        find_duplicates(photos, verify=True, ray=cluster, workers=1)


def test_too_many_pairs_are_refused(store, cluster):
    with pytest.raises(EmbedkitError, match="more than 100 pairs have a cosine of"):
        find_duplicates(store, verify=False, ray=cluster, max_pairs=100, **SETTINGS)


def test_a_store_that_a_worker_does_not_see(store, cluster, monkeypatch):
    class Elsewhere:
        cwd = staticmethod(lambda: "/nowhere/at/all")

    monkeypatch.setattr(ray_cells, "Path", Elsewhere)
    with pytest.raises(WorkerError, match=r"doesn't see /nowhere/at/all; all machines"):
        find_duplicates(store, verify=False, ray=cluster, **SETTINGS)


@pytest.mark.parametrize("settings", [{"mode": "exact"}, {"flip": True}, {"rotate": True}])
def test_what_does_not_go_with_ray(store, settings):
    with pytest.raises(ValueError, match="ray compares within cells"):
        find_duplicates(store, ray="local", **settings)


@pytest.mark.long
def test_a_hundred_thousand_vectors(cluster, tmp_path):
    store = write_store(tmp_path / "a.h5", photo_like(100_000, DIM, 0))
    exact = find_pairs(store, DedupConfig(mode="exact", **SETTINGS))
    found = find_duplicates(store, verify=False, ray=cluster, workers=2, **SETTINGS).pairs
    share = compared(found, exact)
    logging.getLogger("embedkit").warning(
        "%d pairs, %.2f%% found, %.2f%% stated", len(exact), 100 * share, 100 * found.info.recall
    )
    assert share > 0.95
    assert found.info.recall == pytest.approx(share, abs=0.02)
