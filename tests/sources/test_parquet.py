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
        for record in records[1:]:
            with pytest.raises(DecodeError, match="null"):
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
