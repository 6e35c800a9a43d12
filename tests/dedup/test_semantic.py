"""SemDeDup on known clusters, and beside the published code's steps in plain NumPy."""

import json

import numpy as np
import pandas
import pytest
from stores import write_store
from vectors import clustered

from embedkit import semantic_dedup
from embedkit.dedup.semantic import within_clusters
from embedkit.dedup.semantic.results_file import write_semantic
from embedkit.errors import StoreError
from embedkit.utils.vectors import unit_rows


def published(rows, clusters, distances, eps, keep):
    """As facebookresearch/SemDeDup: a triangular matrix of cosines per cluster, its maxima."""
    units, removed = unit_rows(rows).astype(float), {}
    for number in np.unique(clusters):
        members = np.flatnonzero(clusters == number)
        key = -distances[members] if keep == "farthest" else distances[members]
        members = members[np.argsort(key, kind="stable")]
        cosines = np.triu(units[members] @ units[members].T - 2, 1) + 2
        cosines[np.tril_indices(len(members))] = -1
        for place, row in enumerate(members):
            if place and cosines[:, place].max() > 1 - eps:
                removed[int(row)] = int(members[cosines[:, place].argmax()])
    return removed


def around(center, angles, dim=8):
    """Rows at these angles (radians) from a center, each in a direction of its own."""
    axes = np.eye(dim)[[axis for axis in range(dim) if not center[axis]]]
    return [
        np.cos(angle) * center + np.sin(angle) * axes[number % len(axes)]
        for number, angle in enumerate(angles)
    ]


@pytest.mark.parametrize("keep", ["farthest", "nearest"])
@pytest.mark.parametrize("block", [7, 4096])
def test_as_published(tmp_path, monkeypatch, keep, block):
    monkeypatch.setattr(within_clusters, "_MOST_ROWS", block)
    rows = clustered(400, 16)
    store = write_store(tmp_path / "a.h5", rows)
    found = semantic_dedup(store, eps=0.12, k=6, keep=keep)
    expected = published(rows, found.clusters, found.distances, 0.12, keep)
    assert set(np.flatnonzero(~found.kept)) == set(expected)
    assert 50 < len(expected) < 350
    for row, other in expected.items():
        assert found.similar[row] == other
        assert found.clusters[row] == found.clusters[other]


def test_known_clusters_exactly(tmp_path):
    """Two motifs and a lone image: of a motif, whose images are alike, one is kept."""
    one, two, lone = np.eye(8)[:3]
    rows = [*around(one, [0.20, 0.01, 0.05]), *around(two, [0.02, 0.06, 0.24]), lone]
    store = write_store(tmp_path / "a.h5", np.array(rows, "f4"))
    farthest = semantic_dedup(store, eps=0.1, k=3)
    assert np.flatnonzero(farthest.kept).tolist() == [0, 5, 6]
    assert farthest.similar.tolist() == [-1, 2, 0, 4, 5, -1, -1]  # 2 and 4 are removed themselves
    nearest = semantic_dedup(store, eps=0.1, k=3, keep="nearest")
    assert np.flatnonzero(nearest.kept).tolist() == [1, 3, 6]
    assert semantic_dedup(store, eps=0.0001, k=3).num_kept == 7
    assert semantic_dedup(store, eps=0.01, k=3).kept.tolist() == [
        *(True, False, True), *(False, True, True), True,
    ]  # fmt: skip
    half = semantic_dedup(store, keep_fraction=3 / 7, k=3)
    assert np.array_equal(half.kept, farthest.kept)
    assert half.num_clusters == 3


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.7, 0.999, 1])
def test_the_fraction_is_kept(tmp_path, fraction):
    store = write_store(tmp_path / "a.h5", clustered(500, 16))
    found = semantic_dedup(store, keep_fraction=fraction, k=5)
    assert found.num_kept == max(int(np.ceil(fraction * 500)), 5)  # a cluster keeps its first
    again = semantic_dedup(store, eps=found.eps, k=5)
    assert np.array_equal(again.kept, found.kept)


def test_copies_stay_together(tmp_path):
    rows = np.repeat(clustered(20, 16), 5, axis=0)
    store = write_store(tmp_path / "a.h5", rows)
    found = semantic_dedup(store, keep_fraction=0.5, k=2)
    assert found.num_kept >= 50
    one_each = semantic_dedup(store, eps=1e-5, k=2)
    assert sorted({int(row) // 5 for row in np.flatnonzero(one_each.kept)}) == [*range(20)]
    assert one_each.num_kept == 20


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_table(tmp_path, suffix):
    labels = ["cat" if row % 2 else "dog" for row in range(60)]
    store = write_store(tmp_path / "a.h5", clustered(60, 8), labels=labels)
    found = semantic_dedup(store, keep_fraction=0.5, k=2, filters=["label=cat"])
    path = write_semantic(found, tmp_path / f"out.{suffix}")
    read = {
        "csv": lambda path: pandas.read_csv(path, keep_default_na=False),
        "jsonl": lambda path: pandas.DataFrame(map(json.loads, path.read_text().splitlines())),
        "parquet": pandas.read_parquet,
    }[suffix](path)
    assert read["id"].tolist() == [f"{row}.jpg" for row in range(1, 60, 2)]
    assert (read["decision"] == "kept").tolist() == found.kept.tolist()
    names = ["" if row < 0 else f"{row}.jpg" for row in found.similar]
    assert read["similar_to"].tolist() == names
    assert names.count("") == 2
    np.testing.assert_array_equal(read["cosine"].to_numpy("f4"), found.cosines)
    with pytest.raises(StoreError, match="overwrite=True"):
        write_semantic(found, path)
    assert found.to_pandas()["kept"].sum() == found.num_kept


def test_errors(tmp_path):
    store = write_store(tmp_path / "a.h5", clustered(5, 8))
    for settings, words in (
        ({}, "one of keep_fraction"),
        ({"eps": 0.1, "keep_fraction": 0.5}, "one of keep_fraction"),
        ({"keep_fraction": 0}, "keep_fraction must be"),
        ({"eps": 3}, "eps must be"),
        ({"eps": 0.1, "k": 0}, "k must be"),
        ({"eps": 0.1, "keep": "best"}, "keep must be"),
    ):
        with pytest.raises(ValueError, match=words):
            semantic_dedup(store, **settings)
    with pytest.raises(StoreError, match="no image passes"):
        semantic_dedup(store, eps=0.1, filters=["width>99999"])
