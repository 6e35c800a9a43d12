"""Outliers: neighbours beside a sort of all cosines, scores beside plain loops."""

import json
import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import pytest
from images import write_photos
from stores import write_store

from embedkit.analysis.outliers import exact_knn as neighbors_module
from embedkit.analysis.outliers import find_outliers, write_outliers, write_outliers_page
from embedkit.analysis.outliers.exact_knn import nearest_others
from embedkit.errors import IndexMismatchError, StoreError
from embedkit.index import Index, IndexSpec
from embedkit.index.generation import change_generation
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.store import EmbeddingStore

HOSTILE = '</script><script>alert(1)</script>"><img src=x onerror=alert(1)>'
DECODE = {
    "decoder": "exact", "background": [255, 255, 255], "max_pixels": 10**6, "max_bytes": 2**20,
}  # fmt: skip


def clusters(count=30, seed=0):
    """Three tight clusters of ``count``, one label each."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, 8) * 5
    rows = np.concatenate([c + 0.4 * rng.standard_normal((count, 8)) for c in centres])
    return rows.astype("f4"), [name for name in "abc" for _ in range(count)]


@pytest.mark.parametrize(("asking", "others"), [(1, 1), (7, 3), (3, 7), (16, 32), (100, 100)])
@pytest.mark.parametrize("k", [1, 4, 9, 60])
@pytest.mark.parametrize("tied", [False, True])
def test_neighbours_are_those_of_a_sort(tmp_path, monkeypatch, asking, others, k, tied):
    monkeypatch.setattr(neighbors_module, "_QUERY_ROWS", asking)
    monkeypatch.setattr(neighbors_module, "_OTHER_ROWS", others)
    rng = np.random.default_rng(1)
    # Rows of 1 and -1 have cosines of quarters: exact, and many are equal.
    rows = rng.choice([-1.0, 1.0], (50, 4)) if tied else rng.standard_normal((50, 6)) * 3
    with EmbeddingStore.open(write_store(tmp_path / "a.h5", rows.astype("f4"))) as store:
        found, cosines = nearest_others(store, k)
    rows = rows.astype("f4").astype(float)
    for row, own in enumerate(rows):
        all_cosines = [
            -2.0 if other == row else float(own @ v / np.linalg.norm(own) / np.linalg.norm(v))
            for other, v in enumerate(rows)
        ]
        best = sorted(range(50), key=lambda other: -all_cosines[other])[: min(k, 49)]
        assert found[row].tolist() == best
        np.testing.assert_allclose(cosines[row], [all_cosines[o] for o in best], atol=1e-6)


def test_one_image_has_no_neighbours(tmp_path):
    with EmbeddingStore.open(write_store(tmp_path / "a.h5", np.ones((1, 4), "f4"))) as store:
        found, cosines = nearest_others(store, 3)
    assert found.shape == cosines.shape == (1, 0)


def test_wrong_labels_and_strangers_are_found_and_nothing_else(tmp_path):
    rows, labels = clusters()
    labels[4], labels[70] = "c", "a"
    rows[50] = [0, 0, 0, -4, 0, 0, 0, 4]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    found = find_outliers(store, k=7)
    assert {(one.row, one.label, one.suggested) for one in found.labels if one.score > 0.5} >= {
        (4, "c", "a"),
        (70, "a", "c"),
    }
    assert {one.row for one in found.labels if one.row != 50} == {4, 70}
    assert found.off_topic[0].row == 50
    assert found.off_topic[0].score > 3 * max([o.score for o in found.off_topic[1:]], default=3)
    assert found.labels[0].id == f"{found.labels[0].row}.jpg"


def test_scores_are_as_documented(tmp_path):
    rows, labels = clusters(8, seed=5)
    rows += np.random.default_rng(2).standard_normal(rows.shape).astype("f4") * 2
    labels[3] = None
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    found = find_outliers(store, k=5, min_deviations=-1e9)
    with EmbeddingStore.open(store) as opened:
        near, cosines = nearest_others(opened, 5)
    distance = [1 - float(np.mean(line)) for line in cosines.astype(float)]
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    assert len(found.off_topic) == 24
    for one in found.off_topic:
        assert one.score == pytest.approx((distance[one.row] - np.median(distance)) / spread)
    expected = {}
    for row, own in enumerate(labels):
        votes = {}
        for other, cosine in zip(near[row], cosines[row].astype(float), strict=True):
            if labels[other]:
                vote = math.exp(cosine / 0.07)
                votes[labels[other]] = votes.get(labels[other], 0) + vote
        total = sum(votes.values())
        best = max((name for name in votes if name != own), key=votes.get, default=None)
        if own and best and votes[best] > votes.get(own, 0):
            expected[row] = (best, (votes[best] - votes.get(own, 0)) / total)
    assert {one.row: one.suggested for one in found.labels} == {
        r: e[0] for r, e in expected.items()
    }
    for one in found.labels:
        assert one.score == pytest.approx(expected[one.row][1])
    assert [o.score for o in found.labels] == sorted((o.score for o in found.labels), reverse=True)
    assert [o.row for o in find_outliers(store, k=5, top=2).labels] == [
        o.row for o in found.labels[:2]
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images(tmp_path, count):
    store = write_store(tmp_path / "a.h5", np.eye(count, 4, dtype="f4"), labels=["a", "b"][:count])
    found = find_outliers(store)
    assert (found.images, found.off_topic, found.k) == (count, (), max(count - 1, 0))
    assert len(found.labels) == (2 if count == 2 else 0)


def test_a_stranger_among_copies_is_found(tmp_path):
    one = np.random.default_rng(0).standard_normal(32).astype("f4")
    copies = np.tile(one, (301, 1))
    assert not find_outliers(write_store(tmp_path / "same.h5", copies)).off_topic
    store = write_store(tmp_path / "a.h5", np.concatenate([copies, -one[None]]))
    assert [found.row for found in find_outliers(store).off_topic] == [301]


def test_bad_arguments(tmp_path):
    store = write_store(tmp_path / "a.h5", np.eye(3, dtype="f4"))
    with pytest.raises(ValueError, match="k must be"):
        find_outliers(store, k=0)
    with pytest.raises(ValueError, match="top must be"):
        find_outliers(store, top=0)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files(tmp_path, suffix):
    rows, labels = clusters(10)
    labels[4] = "c"
    found = find_outliers(write_store(tmp_path / "a.h5", rows, labels=labels), k=5)
    output = write_outliers(found, tmp_path / f"out.{suffix}")
    if suffix == "csv":
        lines = pandas.read_csv(output).to_dict("records")
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        lines = pandas.read_parquet(output).to_dict("records")
    wrong = [line for line in lines if line["kind"] == "label"]
    assert [(one["rank"], one["id"], one["label"], one["suggested"]) for one in wrong] == [
        (1, "4.jpg", "c", "a")
    ]
    with pytest.raises(StoreError, match="overwrite=True"):
        write_outliers(found, output)


def test_page_shows_pictures_and_keeps_names_as_text(tmp_path):
    paths = write_photos(tmp_path / "photos", 10)
    rows, _ = clusters(5)
    labels = ["a", "b", *["a"] * 3, *["b"] * 4, HOSTILE]
    ids = [*map(str, paths[:9]), HOSTILE]
    hashes = [*(sha256(path.read_bytes()).digest() for path in paths[:9]), b"x" * 32]
    store = write_store(
        tmp_path / "a.h5", rows[:10], labels=labels, ids=ids, decode=DECODE, content_hash=hashes
    )
    found = find_outliers(store, k=3, min_deviations=-1e9)
    text = write_outliers_page(found, Path(tmp_path / "out.html")).read_text()
    assert HOSTILE not in text
    assert text.count("data:image/jpeg;base64,") > 20
    assert "Likely label errors" in text
    assert "b, or a?" in text


def test_an_index_gives_the_same_and_says_how_much_it_finds(tmp_path, monkeypatch):
    rows, labels = clusters()
    labels[4] = "c"
    rows[50] = [0, 0, 0, -4, 0, 0, 0, 4]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    exact = find_outliers(store, k=7)
    assert exact.recall is None
    found = find_outliers(
        store, k=7, index=Index.build(store, tmp_path / "a.index", IndexSpec("Flat"))
    )
    assert found.recall == 1
    assert [(o.kind, o.row, o.suggested) for o in (*found.off_topic, *found.labels)] == [
        (o.kind, o.row, o.suggested) for o in (*exact.off_topic, *exact.labels)
    ]
    for one, other in zip(found.labels, exact.labels, strict=True):
        assert [row for row, *_ in one.neighbors] == [row for row, *_ in other.neighbors]
        assert one.score == pytest.approx(other.score, abs=1e-5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.jpg").touch()
    text = write_outliers_page(found, tmp_path / "out.html").read_text()
    assert "7, by an index that finds 100.0% of them" in text


def test_an_index_that_misses_some_says_so(tmp_path):
    rng = np.random.default_rng(0)
    store = write_store(tmp_path / "a.h5", rng.standard_normal((2000, 32)).astype("f4"))
    path = Index.build(store, tmp_path / "a.index", IndexSpec("IVF16,Flat", recall=0.3))
    manifest = IndexManifest.read(path / MANIFEST)  # whose setting was chosen by measured times
    change_generation(path, replace(manifest, params=replace(manifest.params, nprobe=2)))
    found = find_outliers(store, k=10, index=path)
    assert 0.2 < found.recall < 1


def test_an_index_of_other_images_is_refused(tmp_path):
    rows, _ = clusters()
    store = write_store(tmp_path / "a.h5", rows)
    few = write_store(tmp_path / "few.h5", rows[:50])
    path = Index.build(few, tmp_path / "few.index", IndexSpec("Flat"))
    with pytest.raises(IndexMismatchError, match=r"few.index: has no 50.jpg of .*a.h5"):
        find_outliers(store, index=path)
    path = Index.build(store, tmp_path / "a.index", IndexSpec("Flat"))
    with pytest.raises(
        IndexMismatchError, match=r"a.index: holds \d+.jpg, which the store doesn't"
    ):
        find_outliers(few, k=40, index=path)


def test_an_index_that_finds_too_few_is_refused(tmp_path):
    rows, _ = clusters()
    store = write_store(tmp_path / "a.h5", rows)
    path = Index.build(store, tmp_path / "a.index", IndexSpec("IVF3,Flat", recall=0.5))
    with pytest.raises(IndexMismatchError, match=r"finds fewer than 80 neighbours of \d+.jpg"):
        find_outliers(store, k=80, index=path)
