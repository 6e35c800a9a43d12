"""Selection is exact: beside a loop over all images and classes, ties included."""

import csv
import dataclasses
import json
from importlib import import_module

import h5py
import numpy as np
import pandas
import pytest
from store_contents import make_content, make_rows, write_folder
from stores import write_store

from embedkit.analysis.classification.head import softmax
from embedkit.analysis.selection import top_k as best_module
from embedkit.analysis.selection.candidates import candidates
from embedkit.analysis.selection.results_file import write_selection, write_webdataset
from embedkit.analysis.selection.select import select
from embedkit.errors import StoreCorruptError, StoreError, StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.types import Head

CLASSES, DIM = 12, 8


def make_head(seed=0, tied=False, dim=DIM):
    rng = np.random.default_rng(seed)
    # Small whole numbers and quarters: the logits are exact in whatever order they are added up.
    weight = rng.integers(-4, 5, (CLASSES, dim)).astype("f4") / 4
    if tied:
        weight[5] = weight[2]  # two classes that are always equally likely
    names = tuple(f"class {c}" if c not in {3, 4} else "crane" for c in range(CLASSES))
    return Head(weight, np.zeros(CLASSES, "f4"), names, tuple(f"n{c:08d}" for c in range(CLASSES)))


def make_rows_of(count, seed=1, tied=False, dtype="f2"):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (count, DIM)).astype(dtype)
    if tied:
        rows = rows[rng.integers(0, count // 5, count)]  # every row is there about five times
    return rows


def brute_force(rows, head, k, *, asked=range(CLASSES), floor=None, most=10):
    """``[(class, rank, row, score)]``, from scores of all images and Python's own sort."""
    logits = rows.astype("f4") @ head.weight.T + head.bias
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    likely = [sorted(range(CLASSES), key=lambda c, r=r: (-r[c], c))[:most] for r in shares]
    out = []
    for c in asked:
        mine = [r for r in range(len(rows)) if c in likely[r]]
        mine = [r for r in mine if floor is None or shares[r, c] >= np.float32(floor)]
        mine.sort(key=lambda r, c=c: (-shares[r, c], r))
        out += [(c, n, r, shares[r, c]) for n, r in enumerate(mine[:k], 1)]
    return out


def as_lines(selection):
    columns = (selection.classes, selection.ranks, selection.rows)
    return [tuple(int(v) for v in line) for line in zip(*columns, strict=True)]


@pytest.fixture
def small(monkeypatch):
    """Buffers that overflow and blocks that end all the time."""
    monkeypatch.setattr(best_module, "_LEAST_SLACK", 3)
    streaming = import_module("embedkit.analysis.selection.select")
    monkeypatch.setattr(streaming, "_BLOCK_ROWS", 7)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("k", [1, 4, 1000])
@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_selection_is_that_of_a_sort_of_everything(tmp_path, small, tied, k, most, workers):
    head, rows = make_head(tied=tied), make_rows_of(230, tied=tied)
    stores = [
        write_store(tmp_path / f"{n}.h5", part, head=head)
        for n, part in enumerate(np.split(rows, [100, 100, 205]))
    ]
    found = select(stores, k, max_classes=most, workers=workers)
    expected = brute_force(rows, head, k, most=most)
    assert as_lines(found) == [line[:3] for line in expected]
    np.testing.assert_allclose(found.scores, [line[3] for line in expected], rtol=1e-6)
    assert found.scanned == 230
    assert found.images == len({line[2] for line in expected})
    counts = [sum(line[0] == c for line in expected) for c in range(CLASSES)]
    assert found.counts.tolist() == counts


@pytest.mark.parametrize("floor", [0.0, 0.2, 0.9])
def test_some_classes_and_a_least_score(tmp_path, small, floor):
    head, rows = make_head(), make_rows_of(150, dtype="f4")
    store = write_store(tmp_path / "a.h5", rows, head=head)
    asked = ["7", "n00000002", "class 9", "7"]
    found = select(store, 6, classes=asked, min_score=floor, max_classes=2)
    expected = brute_force(rows, head, 6, asked=[7, 2, 9], floor=floor, most=2)
    assert as_lines(found) == [line[:3] for line in expected]
    assert found.asked == (7, 2, 9)
    exact = found.scores[0]
    first = str(found.classes[0])
    again = select(store, 6, classes=[first], min_score=float(exact), max_classes=2)
    assert set(again.scores) == {exact}  # the score that is asked for is enough


def test_a_folder_of_shards_and_progress(tmp_path, small):
    head, rows = make_head(dim=4), make_rows(40)
    parts = [make_content(rows.rows(0, 13), head=head), make_content(rows.rows(13, 40), head=head)]
    folder = write_folder(tmp_path / "store", parts)
    with EmbeddingStore.open(folder) as store:
        whole = store.to_numpy()
    seen = []
    found = select(folder, 5, progress=lambda p: seen.append((p.done, p.total)))
    assert as_lines(found) == [line[:3] for line in brute_force(whole, head, 5)]
    assert seen[-1] == (40, 40)


def test_no_images(tmp_path):
    store = write_store(tmp_path / "a.h5", np.empty((0, DIM), "f4"), head=make_head())
    found = select(store, 5)
    assert (found.scanned, found.images, len(found.rows)) == (0, 0, 0)
    assert write_selection(found, tmp_path / "a.csv").read_text().count("\n") == 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("embedkit.analysis.selection.lines._PIECE", 5)
    head, rows = make_head(), make_rows_of(60)
    stores = [
        write_store(tmp_path / f"{n}.h5", part, head=head, ids=[f"{n}/{r}.jpg" for r in range(30)])
        for n, part in enumerate(np.split(rows, 2))
    ]
    selection = select(stores, 3, max_classes=4)
    output = write_selection(selection, tmp_path / f"out.{suffix}")
    if suffix == "csv":
        with output.open(newline="") as file:
            lines = list(csv.DictReader(file))
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        lines = pandas.read_parquet(output).to_dict("records")
    expected = sorted((r, c, n, s) for c, n, r, s in brute_force(rows, head, 3, most=4))
    assert [one["id"] for one in lines] == [f"{r // 30}/{r % 30}.jpg" for r, *_ in expected]
    assert [int(one["class"]) for one in lines] == [c for _, c, *_ in expected]
    assert [int(one["rank"]) for one in lines] == [n for _, _, n, _ in expected]
    assert [one["class_name"] for one in lines] == [head.class_names[c] for _, c, *_ in expected]
    assert [one["class_id"] for one in lines] == [head.class_ids[c] for _, c, *_ in expected]
    assert [int(one["row"]) for one in lines] == [r % 30 for r, *_ in expected]
    assert {one["store"] for one in lines} == set(map(str, stores))
    np.testing.assert_allclose([float(o["score"]) for o in lines], [e[3] for e in expected], 1e-6)
    with pytest.raises(StoreError, match="overwrite=True"):
        write_selection(selection, output)
    write_selection(selection, output, overwrite=True)


def test_webdataset(tmp_path):
    head, rows = make_head(), make_rows_of(40)
    ids = [f"shards/{r // 20:03d}.tar#a.b/{r:04d}.rgb.jpg" for r in range(40)]
    store = write_store(tmp_path / "a.h5", rows, head=head, ids=ids)
    output = write_webdataset(select(store, 4), tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["url"] for line in lines] == ["shards/000.tar", "shards/001.tar"]
    found = {
        (c, int(key.removeprefix("a.b/")))
        for line in lines
        for key, served in line["samples"].items()
        for c, _ in served
    }
    assert found == {(c, r) for c, _, r, _ in brute_force(rows, head, 4)}
    loose = write_store(tmp_path / "b.h5", rows, head=head)
    with pytest.raises(StoreError, match="lies in no tar"):
        write_webdataset(select(loose, 4), tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "TAR", "tar.xz"])
def test_webdataset_of_any_tar(tmp_path, suffix):
    url = f"https://host/000.{suffix}" if suffix == "TAR" else f"s#1/000.{suffix}"
    ids = [f"{url}#a/{r}.x#y.jpg" for r in range(10)]
    store = write_store(tmp_path / "a.h5", make_rows_of(10), head=make_head(), ids=ids)
    output = write_webdataset(select(store, 10, classes=["1"]), tmp_path / "out.jsonl")
    (line,) = map(json.loads, output.read_text().splitlines())
    assert line["url"] == url
    assert set(line["samples"]) <= {f"a/{r}" for r in range(10)}


def test_more_images_a_class_than_there_are(tmp_path):
    store = write_store(tmp_path / "a.h5", make_rows_of(30), head=make_head())
    assert as_lines(select(store, 10**12)) == as_lines(select(store, 30))


def test_a_class_is_known_by_one_of_its_names(tmp_path):
    head = make_head()
    names = list(head.class_names)
    names[1], names[2], names[6] = "maillot", "maillot, tank suit", "gar, garfish"
    head = dataclasses.replace(head, class_names=tuple(names))
    store = write_store(tmp_path / "a.h5", make_rows_of(50), head=head)
    for word, number in {
        "garfish": 6,
        "tank suit": 2,
        "maillot": 1,
        "n00000003": 3,
        "4": 4,
    }.items():
        assert select(store, 1, classes=[word]).asked == (number,)


def test_what_is_refused(tmp_path):
    head, rows = make_head(), make_rows_of(10)
    store = write_store(tmp_path / "a.h5", rows, head=head)
    other = write_store(tmp_path / "b.h5", rows, head=head, backbone="other")
    with pytest.raises(StoreMismatchError, match="backbone"):
        select([store, other], 3)
    with pytest.raises(StoreError, match="no classifier"):
        select(write_store(tmp_path / "c.h5", rows), 3)
    for wrong in ({"per_class": 0}, {"max_classes": 0}, {"workers": 0}, {"min_score": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            select(store, **{"per_class": 1, **wrong})
    with pytest.raises(ValueError, match="no class 'ufo'"):
        select(store, 1, classes=["ufo"])
    with pytest.raises(ValueError, match="classes is empty"):
        select(store, 1, classes=[])
    with pytest.raises(ValueError, match="more than one class is 'crane'"):
        select(store, 1, classes=["crane"])
    with pytest.raises(StoreMismatchError, match="give stores that were embedded alike"):
        select([store, other], 3)
    with pytest.raises(ValueError, match="given twice"):
        select([store, tmp_path / "." / "a.h5"], 3)
    with pytest.raises(ValueError, match="no store"):
        select([], 1)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite(tmp_path, dtype, bad):
    rows = make_rows_of(10, dtype=dtype)
    rows[6, 3] = bad
    with pytest.raises(StoreError, match="row 6 isn't finite"):
        select(write_store(tmp_path / "a.h5", rows, head=make_head()), 3)


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    store = write_store(tmp_path / "a.h5", make_rows_of(1000), head=make_head())
    with h5py.File(store) as file:
        offset = file["embeddings"].id.get_offset()
    with EmbeddingStore.open(store) as opened:
        shard = opened.shard(0)
        assert np.array_equal(shard.read(np.arange(3, 9)), shard.embeddings[3:9])
        assert shard.read(np.arange(4, 4)).shape == (0, DIM)
        with store.open("r+b") as file:
            file.truncate(offset + 100)
        with pytest.raises(StoreCorruptError, match="ends before its last row"):
            shard.read(np.arange(1000))


@pytest.mark.parametrize("classes", [1, 2, 7, 8, 9, 1000, 1001])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 5000.0])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1000.0])
def test_no_row_is_left_out_that_passes_by_a_rounding(classes, scale, spread):
    rng = np.random.default_rng(classes)
    logits = (rng.standard_normal((200, classes)) * scale + rng.normal() * scale).astype("f4")
    bias = (rng.standard_normal(classes) * spread).astype("f4")
    shares = softmax(logits + bias)
    for row in range(0, 200, 7):
        thresholds = np.full(classes, np.inf, "f4")
        number = int(rng.integers(classes)) if row % 2 else int(shares[row].argmax())
        thresholds[number] = np.nextafter(shares[row, number], np.float32(-1))
        found = candidates(logits.copy(), bias, thresholds, None, classes)
        assert row in found.rows.tolist()
        expected = np.flatnonzero(shares[:, number] > thresholds[number])
        assert sorted(found.rows.tolist()) == expected.tolist()
        mine = candidates(logits.copy(), bias, thresholds[[number]], np.array([number]), classes)
        assert sorted(mine.rows.tolist()) == expected.tolist()
