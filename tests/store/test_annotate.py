"""Columns of a table put into an existing store: all else stays as it was."""

import csv
import datetime
import logging

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_contents import make_content, make_rows, write_folder
from stores import write_store

from embedkit.errors import SourceError, StoreCorruptError, StoreError, StoreFormatError
from embedkit.exporters.export import export
from embedkit.index import Index, IndexSpec
from embedkit.retrieval.metadata import matching_rows
from embedkit.retrieval.search import search
from embedkit.sources.value_table import open_table
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.annotate import annotate, set_annotations
from embedkit.store.annotations import name_problem
from embedkit.store.label import label
from embedkit.types import MISSING_INTEGER

IDS = ["p/cat/a.jpg", "p/dog/b.jpg", "p/c.jpg", "x.tar#owl/d.jpg", "p/e.jpg"]
BIG = 2**53 + 1
VALUES = {
    "who": ["Ann", "Zoë", "Ann", "", None],
    "year": [2020, BIG, 0, -5, None],
    "score": [0.5, -1.0, 1e300, 2.0, None],
    "ok": [True, False, True, False, None],
}
KINDS = {"ok": "boolean", "score": "float", "who": "text", "year": "integer"}


def write(folder, name="a.h5", ids=IDS):
    rows = np.random.default_rng(len(ids)).normal(size=(len(ids), 8)).astype(np.float32)
    return write_store(folder / name, rows, ids=ids, source=("p", "x.tar"))


@pytest.fixture
def store(tmp_path):
    return write(tmp_path)


@pytest.fixture(params=["csv", "parquet"])
def table(tmp_path, request):
    """The images in another order, by names of several kinds, and one that isn't there."""
    order = [3, 0, 2, 1]
    ids = ["owl/d.jpg", "p/cat/a.jpg", "./c.jpg", "dog\\b.jpg", "nobody.jpg"]
    columns = {"file": ids, **{n: [v[i] for i in order] + [v[4]] for n, v in VALUES.items()}}
    path = tmp_path / f"t.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.table(columns), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def values_of(path):
    return {name: opened_values(path, name) for name in KINDS}


def opened_values(path, name):
    with EmbeddingStore.open(path) as opened:
        return opened.to_polars(embeddings=False)[name].to_list()


def passing(path, *filters):
    with EmbeddingStore.open(path) as opened:
        return np.flatnonzero(matching_rows([opened], filters)).tolist()


def test_values_of_each_kind_are_put_in_and_removed(store, table):
    data = store.read_bytes()
    before = EmbeddingStore.open(store)
    done = annotate(store, table)
    assert (done.images, done.matched, done.unmatched) == (5, 4, 1)
    assert (dict(sorted(done.added.items())), done.removed) == (KINDS, ())
    assert verify(store) == []
    with EmbeddingStore.open(store) as after:
        assert after.annotations == KINDS
        assert after.images("year").tolist() == [2020, BIG, 0, -5, MISSING_INTEGER]
        assert np.array_equal(np.asarray(after.embeddings), np.asarray(before.embeddings))
        assert list(after.ids) == IDS
        assert after.columns == before.columns
    assert values_of(store) == {**VALUES, "who": ["Ann", "Zoë", "Ann", None, None]}
    label(store, "folder")
    assert values_of(store)["year"] == VALUES["year"]
    done = annotate(store, remove=[*KINDS])
    assert (done.added, done.removed, done.matched) == ({}, tuple(KINDS), 0)
    label(store, "none")
    with EmbeddingStore.open(store) as after:
        assert (after.annotations, after.labels) == ({}, None)
    assert len(store.read_bytes()) == pytest.approx(len(data), abs=4096)
    assert [path.name for path in store.parent.iterdir() if path.suffix == ".h5"] == ["a.h5"]


def test_filters(store, table):
    annotate(store, table)
    assert passing(store, "who=Ann") == [0, 2]
    assert passing(store, "who!=Ann") == [1, 3, 4]
    assert passing(store, "who=Z*") == [1]
    assert passing(store, "who=") == [3, 4]
    assert passing(store, f"year={BIG}") == [1]
    assert passing(store, f"year={BIG - 1}") == []
    assert passing(store, "year<=0") == [2, 3]
    assert passing(store, "year<0.5") == [2, 3]
    assert passing(store, "year!=2020") == [1, 2, 3, 4]
    assert passing(store, "score>0.5") == [2, 3]
    assert passing(store, "score<0") == [1]
    assert passing(store, "ok=true") == [0, 2]
    assert passing(store, "ok!=yes", "width>1") == [1, 3, 4]
    assert passing(store, "ok=False") == [1, 3]
    for filters, told in {
        "who>Ann": "is text, which takes = and !=",
        "year=new": "takes a number, not 'new'",
        "ok>true": "takes = or != and true or false",
        "ok=2": "true or false",
    }.items():
        with pytest.raises(ValueError, match=told):
            passing(store, filters)
    with pytest.raises(StoreError, match=r"no column hue; .*annotate.* ok, score, who, year, la"):
        passing(store, "hue=1")


def test_an_index_of_the_store_stays_valid(store, table, tmp_path):
    index = Index.build(store, tmp_path / "a.index", IndexSpec(factory="SQ8", rerank=True))
    annotate(store, table)
    annotate(store, table, overwrite=True)
    found = search(index, store, 4, filters=["who=Ann", "year>0"]).neighbors.ids
    assert found == ((IDS[0],),) * 5


def test_shards_merges_and_exports(tmp_path, caplog):
    contents = [make_content(make_rows(2000, seed=n), skipped=n) for n in range(2)]
    folder = write_folder(tmp_path / "s", contents)
    with EmbeddingStore.open(folder) as opened:
        ids = list(opened.ids)
    names = {"id": ids[::-1][:3000], "n": range(3000), "t": [f"té{n}" for n in range(3000)]}
    pq.write_table(pa.table({k: list(v) for k, v in names.items()}), tmp_path / "t.parquet")
    annotate(folder, tmp_path / "t.parquet")
    assert verify(folder) == []
    wanted = [None] * 1000 + list(range(3000))[::-1]
    assert opened_values(folder, "n") == wanted
    whole = merge([folder], tmp_path / "whole.h5")
    assert verify(whole) == []
    assert opened_values(whole, "n") == wanted
    assert opened_values(whole, "t") == [n if n is None else f"té{n}" for n in wanted]
    export(folder, tmp_path / "out.parquet", to="parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.schema.field("n").type == pa.int64()
    assert out["n"].to_pylist() == wanted
    assert out["t"].to_pylist()[:1001] == [None] * 1000 + ["té2999"]
    other = write_folder(tmp_path / "o", [make_content(make_rows(3, seed=9))])
    with EmbeddingStore.open(other) as opened:
        count = len(opened)
    set_annotations(other, {"n": np.arange(count), "t": np.zeros(count)})
    with caplog.at_level(logging.WARNING, "embedkit"):
        both = merge([folder, other], tmp_path / "both.h5")
    assert "without t, which not all" in caplog.text
    assert verify(both) == []
    assert opened_values(both, "n") == [*wanted, 0, 1, 2]
    with EmbeddingStore.open(both) as opened:
        assert opened.annotations == {"n": "integer"}


def test_what_is_refused_leaves_the_store(store, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,year,width\np/c.jpg,1,2\n")
    annotate(store, path, columns=["year"])
    data = store.read_bytes()
    with pytest.raises(ValueError, match=r"a\.h5: .*'width': .* of a built-in .*columns=NAMES"):
        annotate(store, path)
    with pytest.raises(StoreError, match=r"column year already; overwrite=True"):
        annotate(store, path, columns=["year"])
    with pytest.raises(SourceError, match=r"no column 'month'; the columns are id, year, width"):
        annotate(store, path, columns=["month"])
    with pytest.raises(SourceError, match=r"no column 'name'.*key=NAME"):
        annotate(store, path, key="name")
    with pytest.raises(SourceError, match=r"none of the 5 images"):
        annotate(store, path, key="width", columns=["year"], overwrite=True)
    with pytest.raises(StoreError, match=r"no column month was put in.*it has year"):
        annotate(store, remove=["month"])
    with pytest.raises(ValueError, match=r"nothing to do"):
        annotate(store)
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        annotate(store, "t.txt")
    with pytest.raises(SourceError, match=r"no such file"):
        annotate(store, "gone.csv")
    path.write_text("id,new\np/c.jpg,1\nc.jpg,2\np/c.jpg,1\n")
    with pytest.raises(SourceError, match=r"several rows have the image p/c\.jpg"):
        annotate(store, path)
    path.write_text("id\np/c.jpg\n")
    with pytest.raises(ValueError, match=r"no column beside id"):
        annotate(store, path)
    pq.write_table(pa.table({"id": IDS, "v": [[1.0]] * 5}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"column 'v' holds list"):
        annotate(store, tmp_path / "t.parquet")
    pq.write_table(pa.table({"id": IDS, "v": ["a\0b"] * 5}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"NUL"):
        annotate(store, tmp_path / "t.parquet")
    pq.write_table(
        pa.table({"id": IDS, "v": pa.array([2**63] * 5, pa.uint64())}), path.with_suffix(".parquet")
    )
    with pytest.raises(SourceError, match=r"can't be read"):
        annotate(store, tmp_path / "t.parquet")
    columns = {f"c{n}": np.zeros(5) for n in range(100)}
    with pytest.raises(StoreError, match=r"more than 100"):
        set_annotations(store, columns)
    with pytest.raises(ValueError, match=r"for 5 images"):
        set_annotations(store, {"x": np.zeros(4)})
    assert store.read_bytes() == data


def test_the_better_name_counts(tmp_path):
    store = write_store(
        tmp_path / "a.h5", np.eye(2, dtype=np.float32), ids=["p/a.jpg", "a.jpg"], source=("p",)
    )
    path = tmp_path / "t.csv"
    path.write_text("id,v\na.jpg,1\np/a.jpg,2\n")
    annotate(store, path)
    assert opened_values(store, "v") == [2, 1]
    path.write_text("id,v\np/a.jpg,2\na.jpg,1\n")
    annotate(store, path, overwrite=True)
    assert opened_values(store, "v") == [2, 1]


def test_as_many_columns_as_there_may_be(store):
    columns = {f"column {n} {'ä' * 40}": np.full(5, n) for n in range(100)}
    set_annotations(store, columns)
    assert verify(store) == []
    with EmbeddingStore.open(store) as opened:
        assert {*opened.annotations} == {*columns}
        assert opened.images(f"column 99 {'ä' * 40}").tolist() == [99] * 5
    assert passing(store, f"column 7 {'ä' * 40} = 7") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-2", ""], "integer"),
        (["1", "2.5"], "float"),
        (["1e5", "nan", "-inf", ".5"], "float"),
        (["True", "false", ""], "boolean"),
        (["true", "1"], "text"),
        (["007", "1"], "text"),
        (["+49301234", "1"], "text"),
        (["12345678901234567890", "1"], "text"),
        (["9223372036854775807"], "integer"),
        (["-9223372036854775808"], "text"),
        (["", ""], "text"),
        (["x", "1"], "text"),
    ],
)
def test_what_columns_of_csv_hold(tmp_path, texts, kind):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["id,v", *(f"{n},{text}" for n, text in enumerate(texts))]))
    assert open_table(str(path)).kinds(["v"]) == {"v": kind}


def test_what_columns_of_parquet_hold(tmp_path):
    columns = {
        "id": ["1", "2"],
        "small": pa.array([1, None], pa.uint8()),
        "half": pa.array([0.5, None], pa.float32()),
        "word": pa.array(["a", None]).dictionary_encode(),
        "day": [datetime.date(2020, 1, 31), None],
        "none": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = open_table(str(tmp_path / "t.parquet"))
    kinds = table.kinds(list(columns)[1:])
    assert [*kinds.values()] == ["integer", "float", "text", "text", "text"]
    (values,) = table.values(kinds)
    assert values["small"].tolist() == [1, MISSING_INTEGER]
    assert values["half"].tolist()[:1] == [0.5]
    assert np.isnan(values["half"][1])
    assert values["word"].tolist() == [b"a", b""]
    assert values["day"].tolist() == [b"2020-01-31", b""]
    assert values["none"].tolist() == [b"", b""]


def test_names(store):
    for name in ("", " a", "a/b", "a=b", "a,b", "label", "width", "etag", ".", "a\nb", "é" * 51):
        assert name_problem(name)
    for name in ("a", "taken at", "exif:Model", "größe", "été.2", "é" * 50):
        assert not name_problem(name)


def test_a_damaged_value_is_found(store, table):
    annotate(store, table)
    with EmbeddingStore.open(store) as opened:
        shard = opened.shard(0)
        shard.image_column("year", 0, 5)
        where = shard._h5["annotations/year"].id.get_offset()
    data = bytearray(store.read_bytes())
    data[where] ^= 1
    store.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"annotations"):
        EmbeddingStore.open(store)
    assert "annotations" in "".join(verify(store))


@pytest.mark.parametrize("forged", ["label", "x"])
def test_a_forged_annotation_is_refused(tmp_path, forged):
    from embedkit.store.schema import read_annotations

    with h5py.File(tmp_path / "f.h5", "w") as h5:
        h5.create_dataset(f"annotations/{forged}", (3,), "<i2" if forged == "x" else "<i8")
        with pytest.raises(StoreFormatError, match=r"is no annotation"):
            read_annotations(tmp_path / "f.h5", h5)
