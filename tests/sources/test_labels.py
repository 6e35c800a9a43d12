from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.errors import SourceError
from embedkit.sources import open_source


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ant/x.jpg", "ant/deep/y.jpg", "z.jpg"):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("k/l/m.jpg", b"m")
        archive.writestr("n.jpg", b"n")


def labels(spec: object, how: str, column: str | None = None) -> list[str | None]:
    source = open_source(spec, labels=how, label_column=column)  # type: ignore[arg-type]
    return [record.label for record in source.scan()]


def test_words() -> None:
    assert labels("photos", "auto") == ["ant", "ant", None]
    assert labels("photos", "folder") == ["deep", "ant", "photos"]
    assert labels("photos", "none") == [None] * 3
    assert labels("a.zip", "auto") == ["k", None]
    assert labels("a.zip", "folder") == ["l", None]
    with pytest.raises(ValueError, match="labels must be auto"):
        labels("photos", "folders")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("id,label\nphotos/z.jpg,zed\nphotos/ant/x.jpg,ex\n", None),
        ("\ufefflabel,path\nzed,z.jpg\nex,ant/x.jpg\n", None),
        ("whatever,note,kind\nz.jpg,1,zed\nant/x.jpg,2,ex\nant/deep/y.jpg,3,\n", "kind"),
    ],
)
def test_csv(text: str, column: str | None) -> None:
    Path("labels.csv").write_text(text, encoding="utf-8")
    assert labels("photos", "labels.csv", column) == [None, "ex", "zed"]


def test_parquet_and_members() -> None:
    pq.write_table(pa.table({"file": ["k/l/m.jpg", "n.jpg"], "label": [3, None]}), "l.parquet")
    assert labels("a.zip", "l.parquet") == ["3", None]
    pq.write_table(pa.table({"file": ["a.zip#n.jpg"], "label": ["en"]}), "l.parquet")
    assert labels("a.zip", "l.parquet") == [None, "en"]


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([["a", "b"], ["c", None]]), ["a|b", "c"]),
        (pa.array([[3], []], pa.large_list(pa.int8())), ["3", None]),
        (pa.array([2.5, float("nan")]), ["2.5", None]),
        (pa.array([b"caf\xc3\xa9", None]), ["café", None]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([True, False]), ["True", "False"]),
    ],
)
def test_parquet_values(column: pa.Array, wanted: list[str | None]) -> None:
    table = {"file": pa.array([b"k/l/m.jpg", b"n.jpg"]), "label": column}
    pq.write_table(pa.table(table), "l.parquet")
    assert labels("a.zip", "l.parquet") == wanted


@pytest.mark.parametrize("value", [{"x": 1}, [{"x": 1}], [["a"]]])
def test_parquet_values_that_are_no_labels(value: object) -> None:
    pq.write_table(pa.table({"file": ["n.jpg"], "label": [value]}), "l.parquet")
    with pytest.raises(SourceError, match=r"l\.parquet: column 'label': .* is no label"):
        labels("a.zip", "l.parquet")


def test_names_that_are_not_utf8() -> None:
    Path("photos/caf\udce9.jpg").write_bytes(b"x")
    Path("labels.csv").write_bytes(b"id,label\ncaf\xe9.jpg,coffee\n")
    assert labels("photos", "labels.csv") == [None, None, "coffee", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,label\nother.jpg,1\n", "none of the 3 images is in this table"),
        (b"id,kind\nz.jpg,1\n", "no column 'label'.*the columns are id, kind"),
        (b"label\nz\n", "no column of images; the columns are label"),
        (b"", "no column 'label'"),
        (b"id,label\nz.jpg,1\nz.jpg,2\n", "z.jpg has two labels, 1 and 2"),
    ],
)
def test_tables_of_no_use(content: bytes, message: str) -> None:
    Path("labels.csv").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        labels("photos", "labels.csv")


def test_tables_that_cannot_be_read() -> None:
    with pytest.raises(SourceError, match=r"gone\.csv: labels can't be read: no such file"):
        labels("photos", "gone.csv")
    Path("bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"bad\.parquet: labels can't be read"):
        labels("photos", "bad.parquet")


def test_a_short_row_has_no_label() -> None:
    Path("labels.csv").write_text("id,label\nz.jpg\nant/x.jpg,ex\n")
    assert labels("photos", "labels.csv") == [None, "ex", None]


def test_images_without_a_label_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    Path("photos/notes.txt").write_text("no image")
    Path("labels.csv").write_text("id,label\nz.jpg,zed\n")
    assert labels("photos", "labels.csv") == [None, None, None, "zed"]
    told = "labels.csv: has no label for 2 of 3 images: photos/ant/deep/y.jpg, photos/ant/x.jpg"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_the_column_of_ids_can_be_named() -> None:
    Path("labels.csv").write_text("id,name,label\n1,z.jpg,zed\n2,ant/x.jpg,ex\n")
    with pytest.raises(SourceError, match=r"none of the 3 images .*label_id_column=NAME"):
        labels("photos", "labels.csv")
    source = open_source("photos", labels="labels.csv", label_id_column="name")
    assert [record.label for record in source.scan()] == [None, "ex", "zed"]
    source = open_source("photos", labels="labels.csv", label_id_column="nope")
    with pytest.raises(SourceError, match=r"no column 'nope'; .*label_id_column=NAME"):
        list(source.scan())


def test_names_are_compared_as_people_write_them() -> None:
    Path("photos/caf\u00e9.jpg").write_bytes(b"x")
    Path("labels.csv").write_text("id,label\n./z.jpg,zed\nant\\x.jpg,ex\ncafe\u0301.jpg,co\n")
    assert labels("photos", "labels.csv") == [None, "ex", "co", "zed"]
    Path("labels.csv").write_text("id,label\n./z.jpg,zed\nz.jpg,other\n")
    with pytest.raises(SourceError, match=r"z\.jpg has two labels, zed and other"):
        labels("photos", "labels.csv")


def test_tables_in_utf16() -> None:
    Path("labels.csv").write_text("id,label\nz.jpg,zed\n", "utf-16")
    assert labels("photos", "labels.csv") == [None, None, "zed"]


def test_zips_with_backslashes_have_labels() -> None:
    with zipfile.ZipFile("b.zip", "w") as archive:
        for name in ("cats\\in\\1.jpg", "dogs\\2.jpg", "__MACOSX\\3.jpg", "empty\\"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"x")
    assert labels("b.zip", "auto") == ["cats", "dogs"]
    assert labels("b.zip", "folder") == ["in", "dogs"]
    Path("labels.csv").write_text("id,label\ncats/in/1.jpg,cat\n")
    assert labels("b.zip", "labels.csv") == ["cat", None]
