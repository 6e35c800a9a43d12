"""Subsets: beside greedy selections that compare every image with every other at each step."""

import json

import numpy as np
import pandas
import pytest
from stores import write_store
from vectors import clustered

from embedkit import measure_coverage, select_subset
from embedkit.analysis.selection import diverse as diverse_module
from embedkit.analysis.selection import representative as representative_module
from embedkit.analysis.selection import unique as unique_module
from embedkit.analysis.selection.results_file import write_subset
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.index import graph_passes
from embedkit.index import knn_graph as graph_module
from embedkit.types import Head
from embedkit.utils.vectors import unit_rows


def cosines_of(rows):
    units = unit_rows(rows).astype(float)
    return units @ units.T


class Limit:
    """Which images may still be selected, by plain counting."""

    def __init__(self, groups, limit):
        self.groups, self.limit, self.taken = groups, limit, []

    def allows(self, row):
        if row in self.taken:
            return False
        if self.groups is None:
            return True
        return sum(self.groups[one] == self.groups[row] for one in self.taken) < self.limit


def naive_diverse(rows, count, *, chosen=(), groups=None, limit=1, first=None):
    cosines, quota = cosines_of(rows), Limit(groups, limit)
    quota.taken += chosen
    out = []
    if not chosen:
        out, quota.taken = [first], [first]
    while len(out) < count:
        allowed = [row for row in range(len(rows)) if quota.allows(row)]
        if not allowed:
            break
        out.append(min(allowed, key=lambda row: max(cosines[row][quota.taken])))
        quota.taken.append(out[-1])
    return out


def naive_representative(rows, count, k, *, chosen=(), groups=None, limit=1):
    cosines = cosines_of(rows)
    similar = np.zeros_like(cosines)  # [image, its representative]
    for row, line in enumerate(cosines):
        near = [other for other in np.argsort(-line, kind="stable") if other != row][:k]
        similar[row, near] = np.maximum(line[near], 0)
        similar[row, row] = 1
    quota = Limit(groups, limit)
    quota.taken += chosen
    out = []
    while len(out) < count:
        cover = similar[:, quota.taken].max(axis=1, initial=0)
        gains = np.maximum(similar - cover[:, None], 0).sum(axis=0)
        allowed = [row for row in range(len(rows)) if quota.allows(row)]
        if not allowed:
            break
        out.append(max(allowed, key=lambda row: (gains[row], -row)))
        quota.taken.append(out[-1])
    return out


def naive_unique(rows, count, *, chosen=(), groups=None, limit=1):
    cosines = cosines_of(rows)
    np.fill_diagonal(cosines, -1)
    quota = Limit(groups, limit)
    quota.taken += chosen
    out = []
    for row in sorted(range(len(rows)), key=lambda row: (cosines[row].max(), row)):
        if quota.allows(row) and len(out) < count:
            out.append(row)
            quota.taken.append(row)
    return out


NAIVE = {"representative": naive_representative, "unique": naive_unique}


@pytest.fixture
def rows():
    return clustered(240, 12, seed=4)


@pytest.fixture
def store(tmp_path, rows):
    labels = [f"label {row % 7}" for row in range(len(rows))]
    return write_store(tmp_path / "a.h5", rows, labels=labels)


@pytest.fixture(params=["at once", "piece by piece"])
def pieces(request, monkeypatch):
    if request.param == "piece by piece":
        monkeypatch.setattr(diverse_module, "_POOL_BYTES", 4 * 12 * 17)
        monkeypatch.setattr(diverse_module, "_CENTERS", 5)
        monkeypatch.setattr(representative_module, "_BLOCK", 13)
        monkeypatch.setattr(representative_module, "_PIECE", 50)
        monkeypatch.setattr(representative_module, "_SPAN", 100)
        monkeypatch.setattr(representative_module, "_GAINS", 3)
        monkeypatch.setattr(unique_module, "_COMPARED", 10)
        monkeypatch.setattr(graph_passes, "_BLOCK_BYTES", 4 * 12 * 9)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("settings", ["plain", "seeds", "per class", "seeds, per class"])
@pytest.mark.parametrize("count", [1, 25, 500])
def test_diverse_is_the_naive_greedy(store, rows, settings, count):
    chosen = [3, 77, 101] if "seeds" in settings else []
    groups = [row % 7 for row in range(len(rows))] if "per class" in settings else None
    found = select_subset(
        store, "diverse", count, seed_from=[f"{row}.jpg" for row in chosen],
        per_class=4 if groups else None, seed=5,
    )  # fmt: skip
    first = None if chosen else int(found.rows[0])
    expected = naive_diverse(rows, count, chosen=chosen, groups=groups, limit=4, first=first)
    assert found.rows.tolist() == expected[: len(rows)]
    assert len(expected) == min(count, 240 - len(chosen), 28 - len(chosen) if groups else 240)
    cosines, taken = cosines_of(rows), chosen + expected
    for place, row in enumerate(expected[not chosen :], len(chosen) + (not chosen)):
        apart = 1 - cosines[row][taken[:place]].max()
        assert found.scores[place - len(chosen)] == pytest.approx(apart, abs=1e-5)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("settings", ["plain", "seeds", "per class", "seeds, per class"])
@pytest.mark.parametrize("count", [1, 25, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.parametrize("method", ["representative", "unique"])
def test_the_others_are_the_naive_greedy(store, rows, method, settings, count):
    chosen = [3, 77, 101] if "seeds" in settings else []
    groups = [row % 7 for row in range(len(rows))] if "per class" in settings else None
    found = select_subset(
        store, method, count, seed_from=[f"{row}.jpg" for row in chosen],
        per_class=4 if groups else None, neighbors=9,
    )  # fmt: skip
    extra = {"k": 9} if method == "representative" else {}
    expected = NAIVE[method](rows, count, chosen=chosen, groups=groups, limit=4, **extra)
    if method == "representative":  # sums of float32 and float64 may swap gains that are equal
        cosines = cosines_of(rows)
        same = [a == b or cosines[a, b] > 0 for a, b in zip(found.rows, expected, strict=True)]
        assert np.mean(found.rows == np.array(expected)) > 0.9
        assert all(same)
    else:
        assert found.rows.tolist() == expected


def test_a_selection_in_cells_is_nearly_as_good(tmp_path, monkeypatch):
    rows = clustered(3000, 16)
    store = write_store(tmp_path / "a.h5", rows)
    exact = select_subset(store, "representative", 60)
    unique = select_subset(store, "unique", 60)
    monkeypatch.setattr(graph_module, "_EXACT_BYTES", 1000)
    monkeypatch.setattr(graph_module, "_LEAST_ROWS", 60)
    cells = select_subset(store, "representative", 60)
    assert cells.coverage.mean_distance < 1.05 * exact.coverage.mean_distance
    assert select_subset(store, "unique", 60).rows.tolist() == unique.rows.tolist()


def test_methods_beat_a_random_selection_where_they_should(tmp_path):
    rows = clustered(2000, 16)
    store = write_store(tmp_path / "a.h5", rows)
    drawn = np.random.default_rng(0).choice(2000, 40, replace=False)
    random = measure_coverage(store, drawn)
    diverse, representative = (
        select_subset(store, method, 40).coverage for method in ("diverse", "representative")
    )
    assert diverse.radius < 0.8 * random.radius
    assert representative.mean_distance < 0.9 * random.mean_distance
    cosines = cosines_of(rows)[:, drawn].max(axis=1)
    assert random.radius == pytest.approx(1 - cosines.min(), abs=1e-6)
    assert random.mean_distance == pytest.approx(1 - cosines.mean(), abs=1e-6)
    assert measure_coverage(store, drawn, sample=100).images == 100


def test_balanced_takes_as_many_of_each_cluster(tmp_path):
    truth = np.repeat([0, 1, 2, 3], [100, 60, 30, 5])
    rng = np.random.default_rng(0)
    rows = (np.eye(4, 8)[truth] * 3 + rng.normal(0, 0.1, (195, 8))).astype("f4")
    labels = ["a" if row % 2 else "b" for row in range(195)]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    found = select_subset(store, "balanced", 40, clusters=4)
    assert np.bincount(truth[found.rows]).tolist() == [12, 12, 11, 5]
    assert found.groups == tuple(str(number) for number in truth[found.rows])
    seeds = [f"{row}.jpg" for row in range(8)]
    more = select_subset(store, "balanced", 40, clusters=4, seed_from=seeds)
    assert np.bincount(truth[more.rows]).tolist() == [7, 14, 14, 5]
    assert not set(more.rows.tolist()) & set(range(8))
    limited = select_subset(store, "balanced", 40, clusters=4, per_class=6)
    assert sorted(limited.groups) == ["a"] * 6 + ["b"] * 6
    other = select_subset(store, "balanced", 40, clusters=4, seed=1)
    assert other.rows.tolist() != found.rows.tolist()


@pytest.mark.parametrize("method", ["diverse", "representative", "unique", "balanced"])
def test_filters_stores_and_repetition(tmp_path, rows, method):
    labels = ["cat" if row % 3 else "dog" for row in range(len(rows))]
    one = write_store(tmp_path / "a.h5", rows[:100], labels=labels[:100])
    two = write_store(
        tmp_path / "b.h5", rows[100:], labels=labels[100:],
        ids=[f"{row}.jpg" for row in range(100, 240)],
    )  # fmt: skip
    settings = {"filters": ["label=cat"], "clusters": 5}
    found = select_subset([one, two], method, 30, **settings)
    assert {labels[row] for row in found.rows} == {"cat"}
    assert found.candidates == labels.count("cat")
    assert select_subset([one, two], method, 30, **settings).rows.tolist() == found.rows.tolist()
    both = write_store(tmp_path / "c.h5", rows, labels=labels)
    assert select_subset(both, method, 30, **settings).rows.tolist() == found.rows.tolist()
    assert found.to_pandas()["id"].tolist() == [f"{row}.jpg" for row in found.rows]


def test_copies_are_selected_last(tmp_path):
    rows = np.repeat(np.eye(4, 8, dtype="f4"), [5, 5, 1, 1], axis=0)
    store = write_store(tmp_path / "a.h5", rows)
    for method in ("diverse", "representative"):
        found = select_subset(store, method, 12)
        assert {int(row) // 5 if row < 10 else int(row) for row in found.rows[:4]} == {0, 1, 10, 11}
        assert sorted(found.rows.tolist()) == list(range(12))
    assert set(select_subset(store, "unique", 2).rows.tolist()) == {10, 11}


def test_classes_by_the_stored_classifier(tmp_path):
    rows = np.eye(3, 8, dtype="f4")[np.arange(30) % 3] + clustered(30, 8) * 0.01
    head = Head(np.eye(3, 8, dtype="f4"), np.zeros(3, "f4"), ("a", "b", "c"))
    found = select_subset(
        write_store(tmp_path / "a.h5", rows, head=head), "diverse", 30, per_class=2
    )
    assert sorted(found.groups) == ["a", "a", "b", "b", "c", "c"]
    with pytest.raises(StoreError, match="per_class needs classes"):
        select_subset(write_store(tmp_path / "b.h5", rows), "diverse", 3, per_class=2)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_table(tmp_path, store, suffix):
    found = select_subset(store, "diverse", 12, per_class=3)
    path = write_subset(found, tmp_path / f"out.{suffix}")
    read = {
        "csv": pandas.read_csv,
        "jsonl": lambda path: pandas.DataFrame(map(json.loads, path.read_text().splitlines())),
        "parquet": pandas.read_parquet,
    }[suffix](path)
    assert read["row"].tolist() == sorted(found.rows.tolist())
    by_rank = read.sort_values("rank")
    assert by_rank["row"].tolist() == found.rows.tolist()
    assert by_rank["id"].tolist() == [f"{row}.jpg" for row in found.rows]
    assert tuple(by_rank["group"]) == found.groups
    np.testing.assert_array_equal(by_rank["score"].to_numpy("f4"), found.scores)


def test_errors(tmp_path, store):
    other = write_store(tmp_path / "other.h5", clustered(5, 12), backbone="another")
    for settings, error, words in (
        ({"seed_from": ["ufo.jpg"]}, StoreError, "no image 'ufo.jpg'"),
        ({"filters": ["label=ufo"]}, StoreError, "no image passes"),
        ({"per_class": 0}, ValueError, "per_class must be at least 1"),
        ({"clusters": 0}, ValueError, "clusters must be auto"),
    ):
        with pytest.raises(error, match=words):
            select_subset(store, "diverse", 3, **settings)
    with pytest.raises(ValueError, match="method must be one of"):
        select_subset(store, "best", 3)
    with pytest.raises(ValueError, match="count must be"):
        select_subset(store, "diverse", 0)
    with pytest.raises(ValueError, match="given twice"):
        select_subset([store, store], "diverse", 3)
    with pytest.raises(ValueError, match="no store"):
        select_subset([], "diverse", 3)
    with pytest.raises(StoreMismatchError):
        select_subset([store, other], "diverse", 3)
