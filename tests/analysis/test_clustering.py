"""Clusters of a store: known ones are found, named, written and shown."""

import json
from hashlib import sha256

import numpy as np
import pandas
import pytest
from images import write_photos
from stores import write_store

import embedkit
from embedkit.analysis.clustering.cluster import cluster
from embedkit.analysis.clustering.html_page import write_clusters_page
from embedkit.analysis.clustering.results_file import write_clusters
from embedkit.errors import StoreError
from embedkit.retrieval.metadata import matching_rows
from embedkit.store import EmbeddingStore, verify
from embedkit.types import MISSING_INTEGER, Head

DECODE = {
    "decoder": "exact", "background": [255, 255, 255], "max_pixels": 10**6, "max_bytes": 2**20,
}  # fmt: skip


def known(sizes=(40, 30, 20, 10), dim=16, seed=0, noise=0.2):
    """Rows in clusters of these sizes, mixed, and the cluster of each."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.eye(len(sizes), dim)[truth] * 3 + rng.normal(0, noise, (len(truth), dim))
    return (rows * rng.uniform(0.5, 2, (len(truth), 1))).astype("f4"), truth


def head_of(count, dim):
    names = tuple(f"class {number}, another name" for number in range(count))
    return Head(np.eye(count, dim, dtype="f4") * 9, np.zeros(count, "f4"), names)


def test_known_clusters_are_found_largest_first(tmp_path):
    rows, truth = known()
    store = write_store(tmp_path / "a.h5", rows)
    found = cluster(store, 4)
    assert found.clusters.tolist() == truth.tolist()
    assert found.sizes.tolist() == [40, 30, 20, 10]
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = 1 - np.einsum("nd,nd->n", units, found.centers[truth])
    np.testing.assert_allclose(found.distances, expected, atol=1e-6)
    means = [expected[truth == number].mean() for number in range(4)]
    np.testing.assert_allclose(found.mean_distances, means, atol=1e-6)
    assert found.names == ("",) * 4
    assert np.isnan(found.shares).all()


def test_same_seed_same_clusters(tmp_path):
    rng = np.random.default_rng(5)
    store = write_store(tmp_path / "a.h5", rng.standard_normal((300, 8)).astype("f4"))
    first, again, other = (cluster(store, 12, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.clusters, again.clusters)
    assert np.array_equal(first.distances, again.distances)
    assert not np.array_equal(first.clusters, other.clusters)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_auto_finds_how_many_there_are(tmp_path, count):
    rows, truth = known((60,) * count, dim=32)
    found = cluster(write_store(tmp_path / "a.h5", rows))
    assert found.was_chosen
    assert len(found.sizes) == count
    pairs = set(zip(found.clusters.tolist(), truth.tolist(), strict=True))
    assert len(pairs) == count


@pytest.mark.parametrize("rows", [np.ones((3, 4), "f4"), np.ones((50, 4), "f4")])
def test_auto_of_few_or_equal_rows_is_one(tmp_path, rows):
    assert len(cluster(write_store(tmp_path / "a.h5", rows)).sizes) == 1


def test_names_are_the_commonest_classes(tmp_path):
    rows, truth = known((40, 30))
    rows[np.flatnonzero(truth == 0)[:10]] += 2.9 * np.eye(16, dtype="f4")[5]
    rows[np.flatnonzero(truth == 1)[:1]] += 9 * np.eye(16, dtype="f4")[6]  # 1 of 30: not named
    found = cluster(write_store(tmp_path / "a.h5", rows, head=head_of(8, 16)), 2)
    assert found.names[1] == "class 1"
    assert found.shares[1] == pytest.approx(29 / 30)
    assert found.names[0].split(", ")[0] == "class 0"


def test_a_classifier_that_does_not_apply_names_nothing(tmp_path):
    rows, _ = known((40, 30))
    store = write_store(tmp_path / "a.h5", rows, head=head_of(8, 16), head_applies=False)
    assert cluster(store, 2).names == ("", "")


def test_filters_choose_what_is_clustered(tmp_path):
    rows, truth = known((40, 30))
    labels = ["cat" if number else None for number in truth]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    found = cluster(store, 3, filters=["label=cat"])
    assert found.rows.tolist() == np.flatnonzero(truth == 1).tolist()
    with pytest.raises(StoreError, match="no image passes the filters"):
        cluster(store, 3, filters=["label=dog"])
    with pytest.raises(StoreError, match="no column"):
        cluster(store, 3, filters=["weight>3"])


def test_bad_numbers(tmp_path):
    store = write_store(tmp_path / "a.h5", np.ones((3, 4), "f4"))
    for k in (0, -1, "many"):
        with pytest.raises(ValueError, match="k must be auto or a number"):
            embedkit.cluster(store, k)
    with pytest.raises(ValueError, match="rounds"):
        embedkit.cluster(store, 2, rounds=-1)
    with pytest.raises(StoreError, match="holds no images"):
        cluster(write_store(tmp_path / "b.h5", np.ones((0, 4), "f4")), 2)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_table(tmp_path, suffix):
    rows, truth = known((9, 5))
    found = cluster(write_store(tmp_path / "a.h5", rows, head=head_of(8, 16)), 2)
    path = write_clusters(found, tmp_path / f"out.{suffix}")
    read = {
        "csv": pandas.read_csv,
        "jsonl": lambda path: pandas.DataFrame(map(json.loads, path.read_text().splitlines())),
        "parquet": pandas.read_parquet,
    }[suffix](path)
    assert read["id"].tolist() == [f"{row}.jpg" for row in range(14)]
    assert read["cluster"].tolist() == truth.tolist()
    assert read["cluster_name"].tolist() == [f"class {number}" for number in truth]
    np.testing.assert_array_equal(read["distance"].to_numpy("f4"), found.distances)
    with pytest.raises(StoreError, match="overwrite=True"):
        write_clusters(found, path)
    assert found.to_pandas()["cluster"].tolist() == truth.tolist()


def test_page_shows_examples_of_each_cluster(tmp_path):
    paths = write_photos(tmp_path / "photos", 30, size=(40, 30))
    rows, truth = known((18, 12))
    names = [str(path) for path in paths]
    content = [sha256(path.read_bytes()).digest() for path in paths]
    store = write_store(
        tmp_path / "a.h5", rows, ids=names, head=head_of(8, 16), decode=DECODE, content_hash=content
    )
    found = cluster(store, 2)
    page = write_clusters_page(found, tmp_path / "page.html", examples=4, clusters=1).read_text()
    assert "Cluster 0: class 0" in page
    assert "Cluster 1" not in page
    assert "the largest 1 of them shown" in page
    mine = np.flatnonzero(truth == 0)
    order = mine[np.argsort(found.distances[mine])]
    shown = [page.index(f'alt="{names[row]}"') for row in (order[0], order[-1])]
    assert shown == sorted(shown)
    assert page.count("data:image/") == 4


def test_clusters_become_columns_of_the_store(tmp_path):
    rows, truth = known()
    labels = [f"t{number}" for number in truth]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    found = cluster(store, 4, write=True)
    with EmbeddingStore.open(store) as opened:
        assert opened.annotations == {"cluster": "integer", "cluster_distance": "float"}
        assert opened.images("cluster").tolist() == found.clusters.tolist()
        assert opened.images("cluster_distance").tolist() == found.distances.tolist()
        assert (
            np.flatnonzero(matching_rows([opened], ["cluster=2"])).tolist()
            == np.flatnonzero(truth == 2).tolist()
        )
    assert verify(store) == []
    with pytest.raises(StoreError, match="a column cluster already; overwrite=True"):
        cluster(store, 2, write=True)
    part = cluster(store, 2, filters=["cluster<=1"], write=True, overwrite=True)
    with EmbeddingStore.open(store) as opened:
        numbers = opened.images("cluster")
        assert numbers[part.rows].tolist() == part.clusters.tolist()
        assert (numbers == MISSING_INTEGER).sum() == 30
        assert np.isnan(opened.images("cluster_distance")).sum() == 30
        assert matching_rows([opened], ["cluster_distance<=2"]).sum() == 70
