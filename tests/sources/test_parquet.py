from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract import check_source

from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.readers import parquet as parquet_reader

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.types import ImageRecord

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, columns: dict[str, Any], metadata: Any = None, group: int = 7) -> Path:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path, row_group_size=group)
    return path


def scan(path: Path, **options: Any) -> list[ImageRecord]:
    return list(open_source(path, **options).scan())


def test_hugging_face(tmp_path: Path) -> None:
    images = [{"bytes": b"%d" % i * 50, "path": f"p/{i}.jpg"} for i in range(40)]
    classes = {"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}
    path = write(
        tmp_path / "a.parquet",
        {"image": pa.array(images, STRUCT), "label": [i % 2 for i in range(40)]},
        classes,
    )
    records = check_source(
        open_source(path), {f"{path}#p/{i}.jpg": b"%d" % i * 50 for i in range(40)}
    )
    assert [record.label for record in records[:3]] == ["ant", "bee", "ant"]
    assert records[9].key == "image.bytes/1/2"


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(4)])
def test_plain_binary_columns(tmp_path: Path, kind: pa.DataType) -> None:
    data = [b"%04d" % i for i in range(30)]
    path = write(tmp_path / "a.parquet", {"n": range(30), "blob": pa.array(data, kind)})
    records = check_source(open_source(path), {f"{path}#{i}": one for i, one in enumerate(data)})
    assert {record.label for record in records} == {None}


def test_names_missing_or_twice(tmp_path: Path) -> None:
    names = ["a.jpg", None, "a.jpg", ""]
    images = [{"bytes": b"%d" % i, "path": name} for i, name in enumerate(names)]
    path = write(tmp_path / "a.parquet", {"image": pa.array(images, STRUCT)})
    kept = ["a.jpg", "1", "a.jpg@2", "3"]
    check_source(open_source(path), {f"{path}#{n}": b"%d" % i for i, n in enumerate(kept)})


def test_nulls_fail_at_the_read(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b"}, None]
    path = write(tmp_path / "a.parquet", {"image": pa.array(images, STRUCT)})
    records = scan(path)
    assert [record.id for record in records] == [f"{path}#a", f"{path}#b", f"{path}#2"]
    with ImageReader() as reader:
        assert reader.read(records[0]) == b"x"
        reasons = ["no such file: b .in .*image_root", "null"]
        for record, reason in zip(records[1:], reasons, strict=True):
            with pytest.raises(DecodeError, match=reason):
                reader.read(record)


def test_the_scan_reads_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    images = [{"bytes": rng.randbytes(200_000), "path": str(i)} for i in range(20)]
    path = write(tmp_path / "a.parquet", {"image": pa.array(images, STRUCT)})
    before = pa.total_allocated_bytes()
    most = 0
    for _ in open_source(path).scan():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 100_000


def test_the_column_of_images_is_found(tmp_path: Path) -> None:
    data = pa.array([b"x"], pa.binary())
    path = write(tmp_path / "a.parquet", {"mask": data, "image": data, "thumb": data})
    assert scan(path)[0].key == "image/0/0"
    assert scan(path, image_column="mask")[0].key == "mask/0/0"
    with pytest.raises(SourceError, match=r"no column 'nope' of images; .*thumb \(binary\)"):
        scan(path, image_column="nope")
    path = write(tmp_path / "b.parquet", {"mask": data, "thumb": data})
    with pytest.raises(SourceError, match=r"several columns.*mask \(binary\).*image_column=NAME"):
        scan(path)
    path = write(tmp_path / "c.parquet", {"text": ["x"]})
    with pytest.raises(SourceError, match="no column holds images"):
        scan(path)


def test_label_columns(tmp_path: Path) -> None:
    data = pa.array([b"x", b"y"], pa.binary())
    path = write(tmp_path / "a.parquet", {"image": data, "label": [3, None], "kind": ["a", "b"]})
    assert [record.label for record in scan(path)] == ["3", None]
    assert [record.label for record in scan(path, label_column="kind")] == ["a", "b"]
    assert [record.label for record in scan(path, labels="none")] == [None, None]
    with pytest.raises(SourceError, match="no column 'nope' for labels"):
        scan(path, label_column="nope")


def test_several_labels_and_missing_numbers(tmp_path: Path) -> None:
    columns = {"image": pa.array([b"x", b"y"], pa.binary()), "label": [["a", "b"], []]}
    path = write(tmp_path / "a.parquet", {**columns, "size": [1.5, float("nan")]})
    assert [record.label for record in scan(path)] == ["a|b", None]
    assert [record.label for record in scan(path, label_column="size")] == ["1.5", None]


@pytest.mark.parametrize("metadata", [{}, {"info": {"features": {"label": {}}}}, [1]])
def test_other_metadata_is_no_trouble(tmp_path: Path, metadata: Any) -> None:
    data = pa.array([b"x"], pa.binary())
    path = write(tmp_path / "a.parquet", {"image": data, "label": [3]}, metadata)
    assert scan(path)[0].label == "3"


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more PAR1", b"x" * 100])
def test_no_parquet_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    records = check_source(open_source(path), [str(path)])
    assert str(records[0].problem).startswith("Parquet file can't be read: ")


def test_the_limit_and_a_changed_file(tmp_path: Path) -> None:
    data = pa.array([b"x" * 100] * 3, pa.binary())
    path = write(tmp_path / "a.parquet", {"image": data})
    records = scan(path)
    with ImageReader(max_bytes=99) as reader, pytest.raises(DecodeError, match="over the limit"):
        reader.read(records[0])
    write(path, {"image": data[:1]})
    with ImageReader() as reader, pytest.raises(DecodeError, match="changed"):
        reader.read(records[2])


def test_large_row_groups_pass_through_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_reader, "_WINDOW", 20_000)
    rng = random.Random(1)
    data = [rng.randbytes(1000) for _ in range(200)]
    path = write(tmp_path / "a.parquet", {"image": pa.array(data, pa.binary())}, group=200)
    check_source(open_source(path), {f"{path}#{i}": one for i, one in enumerate(data)})


NAMES = ["ant/0.jpg", "ant/1.jpg", "bee/2.jpg"]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset's folder, which the images lie in, with the current folder elsewhere."""
    for name in NAMES:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(name.encode())
    (tmp_path / "set" / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "set"


@pytest.mark.parametrize("place", ["", "data", "../elsewhere"])
def test_structs_that_hold_only_paths(
    dataset: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [{"bytes": None, "path": name} for name in NAMES]
    path = write(dataset / place / "a.parquet", {"image": pa.array(images, STRUCT)}, group=2)
    if place == "../elsewhere":
        monkeypatch.chdir(dataset)
    expected = {name.encode() for name in NAMES}
    records = scan(path)
    with ImageReader() as reader:
        assert {reader.read(record) for record in records} == expected
        assert all(record.kind == "file" and record.id == record.path for record in records)
        monkeypatch.chdir("/")
        moved = scan(path, image_root=dataset)
        assert {reader.read(record) for record in moved} == expected
    assert [record.id for record in moved] == [f"{dataset}/{name}" for name in NAMES]


@pytest.mark.parametrize("statistics", [True, False])
def test_bytes_in_some_rows_and_paths_in_others(dataset: Path, statistics: bool) -> None:
    images = [
        *({"bytes": None, "path": name} for name in NAMES[:2]),
        {"bytes": b"inside" * 999, "path": "inside.jpg"},
        {"bytes": None, "path": str(dataset / NAMES[2])},
        {"bytes": None, "path": None},
    ]
    path = dataset / "a.parquet"
    table = pa.table({"image": pa.array(images, STRUCT)})
    groups = [table[:2], table[2:3], table[3:4], table[4:]] if not statistics else [table]
    with pq.ParquetWriter(path, table.schema, write_statistics=statistics) as writer:
        for group in groups:
            writer.write_table(group)
    files = [str(dataset / name) for name in NAMES]
    ids = [*files[:2], f"{path}#inside.jpg", files[2], f"{path}#4"]
    assert [record.id for record in scan(path)] == ids
    with ImageReader() as reader:
        assert reader.read(scan(path)[2]) == b"inside" * 999
        with pytest.raises(DecodeError, match="null"):
            reader.read(scan(path)[4])


@pytest.mark.parametrize("column", ["image", "file_name", "url"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_columns_of_paths_and_urls(dataset: Path, column: str, kind: pa.DataType) -> None:
    values = [NAMES[0], None, f"file://{dataset}/{NAMES[1]}", NAMES[0]]
    table = {column: pa.array(values, kind), "caption": ["c"] * 4, "label": [1, 2, 3, 4]}
    path = write(dataset / "a.parquet", table)
    first = str(dataset / NAMES[0])
    ids = [first, f"{path}#1", values[2], f"{first}@2"]
    records = check_source(open_source(path), ids)
    assert [record.label for record in records] == ["1", "2", "3", "4"]
    assert records[1].problem == "no image: the path is null"
    with pytest.raises(SourceError, match="no column holds images"):
        scan(write(dataset / "b.parquet", {"caption": ["a.jpg"]}))
    assert scan(dataset / "b.parquet", image_column="caption")[0].problem is not None


@pytest.mark.parametrize("group", [1, 7])
@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.binary()), pa.large_list(pa.binary()), pa.list_(STRUCT), pa.list_(pa.string())],
)
def test_lists_of_images(dataset: Path, kind: pa.DataType, group: int) -> None:
    rows: list[Any] = [[b"a", b"bc"], [], None, [b"d"]]
    ids = ["0.0", "0.1", "3.0"]
    data = [b"a", b"bc", b"d"]
    if kind == pa.list_(STRUCT):
        rows = [row and [{"bytes": one, "path": None} for one in row] for row in rows]
    elif kind == pa.list_(pa.string()):
        rows = [NAMES[:2], [], None, NAMES[2:]]
        data = [name.encode() for name in NAMES]
    table = {"n": [1, 2, 3, 4], "images": pa.array(rows, kind), "label": ["x", "y", "z", "w"]}
    path = write(dataset / "a.parquet", table, group=group)
    names = [f"{path}#{one}" for one in ids]
    if kind == pa.list_(pa.string()):
        names = [str(dataset / name) for name in NAMES]
    records = check_source(open_source(path), dict(zip(names, data, strict=True)))
    assert [record.label for record in records] == ["x", "x", "w"]


def test_lists_of_structs_with_paths_and_bytes(dataset: Path) -> None:
    rows = [
        [{"bytes": b"in", "path": "in.jpg"}, {"bytes": None, "path": NAMES[0]}],
        None,
        [{"bytes": b"more", "path": "in.jpg"}],
    ]
    path = write(dataset / "a.parquet", {"images": pa.array(rows, pa.list_(STRUCT))})
    ids = [f"{path}#in.jpg", str(dataset / NAMES[0]), f"{path}#in.jpg@2"]
    expected = dict(zip(ids, [b"in", NAMES[0].encode(), b"more"], strict=True))
    records = check_source(open_source(path), expected)
    assert [record.named for record in records] == [False, False, True]


def test_dictionaries_of_bytes(tmp_path: Path) -> None:
    values = pa.array([b"a", b"b", b"a", None], pa.binary()).dictionary_encode()
    path = write(tmp_path / "a.parquet", {"image": values}, group=2)
    records = scan(path)
    with ImageReader() as reader:
        assert [reader.read(record) for record in records[:3]] == [b"a", b"b", b"a"]
        with pytest.raises(DecodeError, match="null"):
            reader.read(records[3])


def test_nested_structs(tmp_path: Path) -> None:
    rows = [
        {"meta": {"label": 1, "size": 2}, "photo": {"bytes": b"%d" % i, "path": f"{i}.jpg"}}
        for i in range(5)
    ]
    names = {"_type": "ClassLabel", "names": ["ant", "bee"]}
    features = {"sample": {"meta": {"label": names}}}
    path = write(
        tmp_path / "a.parquet", {"n": range(5), "sample": rows}, {"info": {"features": features}}
    )
    check_source(open_source(path), {f"{path}#{i}.jpg": b"%d" % i for i in range(5)})
    for column in ("sample", "sample.photo"):
        assert scan(path, image_column=column)[0].key == "sample.photo.bytes/0/0"
    assert scan(path, label_column="sample.meta.label")[0].label == "bee"
    with pytest.raises(
        SourceError, match=r"'sample' has several fields: choose one of sample.meta"
    ):
        scan(path, label_column="sample")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: one,
        lambda one: [one],
        lambda one: {"_type": "Sequence", "feature": one, "length": -1},
        lambda one: {"_type": "List", "feature": {"_type": "LargeList", "feature": one}},
    ],
)
def test_class_labels_as_datasets_means_them(tmp_path: Path, wrap: Any) -> None:
    feature = wrap({"_type": "ClassLabel", "names": ["ant", "bee"]})
    is_list = feature.get("_type") != "ClassLabel" if isinstance(feature, dict) else True
    values: list[Any] = [0, 1, -1, -100, None]
    if is_list:
        values = [[1, 0], [1, -1], [-1], [], None]
    if is_list and isinstance(feature, dict) and feature["_type"] == "List":
        values = [[row] if row is not None else None for row in values]
    images = pa.array([b"x"] * 5, pa.binary())
    path = write(
        tmp_path / "a.parquet",
        {"image": images, "label": values},
        {"info": {"features": {"label": feature}}},
    )
    expected = ["bee|ant", "bee", None, None, None] if is_list else ["ant", "bee", None, None, None]
    assert [record.label for record in scan(path)] == expected


def test_negative_numbers_without_names_stay_labels(tmp_path: Path) -> None:
    images = pa.array([b"x"] * 2, pa.binary())
    path = write(tmp_path / "a.parquet", {"image": images, "label": [-1, 2]})
    assert [record.label for record in scan(path)] == ["-1", "2"]
