"""Spherical k-means: beside plain loops over the rows, and the same by every way of reading."""

import numpy as np
import pytest
from stores import write_store
from vectors import clustered

from embedkit.index import spherical_kmeans as module
from embedkit.index.spherical_kmeans import assign, nearest_centers, stream_centers, train_centers
from embedkit.index.store_rows import StoreRows
from embedkit.utils.vectors import unit_rows


def inertia(rows, centers):
    return float((1 - (unit_rows(rows) @ centers.T).max(axis=1)).sum())


def test_centers_are_the_directions_of_the_means_of_their_rows():
    units = unit_rows(clustered(600, 16))
    centers = train_centers(units, 7, seed=0)
    nearest = (units @ centers.T).argmax(axis=1)
    for number, center in enumerate(centers):
        mean = units[nearest == number].mean(axis=0)
        assert mean @ center / np.linalg.norm(mean) > 0.995


def test_far_clusters_are_all_found():
    rng = np.random.default_rng(3)
    true = np.eye(25)[:, :] * 4
    rows = (true[np.repeat(np.arange(25), 20)] + rng.normal(0, 0.1, (500, 25))).astype("f4")
    for seed in range(5):
        centers = train_centers(unit_rows(rows), 25, seed)
        nearest = (unit_rows(rows) @ centers.T).argmax(axis=1).reshape(25, 20)
        assert len({tuple(set(some)) for some in nearest.tolist()}) == 25


def test_passes_over_all_rows_only_improve_the_centers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PER_CENTER", 10)
    rows = clustered(3000, 16)
    with StoreRows.open([write_store(tmp_path / "a.h5", rows)]) as opened:
        numbers = np.arange(len(rows))
        found = [
            inertia(rows, stream_centers(opened, numbers, 9, rounds=rounds)) for rounds in (0, 1, 5)
        ]
        again = stream_centers(opened, numbers, 9, rounds=5)
        assert inertia(rows, again) == found[2]
        assert not np.array_equal(again, stream_centers(opened, numbers, 9, rounds=5, seed=1))
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("block", [4 * 16 * 7, 2**25])
def test_rows_are_assigned_to_the_nearest_center(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK_BYTES", block)
    rows = clustered(100, 16).astype("f2")
    centers = unit_rows(clustered(5, 16, seed=1))
    numbers = np.arange(3, 100, 2)
    got, near = np.empty(len(numbers), int), np.empty(len(numbers))
    with StoreRows.open([write_store(tmp_path / "a.h5", rows)]) as opened:
        for part in assign(opened, numbers, centers, "assigning"):
            assert np.array_equal(part.rows, rows[numbers[part.where]])
            got[part.where], near[part.where] = part.clusters, part.cosines
    cosines = unit_rows(rows[numbers]) @ centers.T
    assert got.tolist() == cosines.argmax(axis=1).tolist()
    np.testing.assert_allclose(near, cosines.max(axis=1), atol=1e-6)


def test_no_more_clusters_than_rows(tmp_path):
    rows = np.repeat(np.eye(3, 8, dtype="f4"), 2, axis=0)  # six rows, three of them different
    with StoreRows.open([write_store(tmp_path / "a.h5", rows)]) as opened:
        centers = stream_centers(opened, np.arange(6), 50)
        assert centers.shape == (6, 8)
        found, cosines = nearest_centers(unit_rows(rows), centers)
    assert np.allclose(cosines, 1)
    assert len(set(found[:, 0].tolist())) == 3
