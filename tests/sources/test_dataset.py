"""Datasets of Hugging Face: open objects, and repositories behind hf://."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract import check_source
from datasets_stand_in import StandIn
from fsspec.implementations.memory import MemoryFileSystem

from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, open_source
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def stand_in(columns: dict[str, Any], features: Any = None, **options: Any) -> StandIn:
    metadata = {"huggingface": json.dumps({"info": {"features": features or {}}})}
    return StandIn(pa.table(columns).replace_schema_metadata(metadata), **options)


def test_an_open_dataset() -> None:
    images = [{"bytes": b"%d" % i * 50, "path": f"{i}.jpg"} for i in range(300)]
    names = {"label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}
    labels = [i % 3 - 1 for i in range(300)]
    dataset = stand_in({"image": pa.array(images, STRUCT), "label": labels}, names)
    expected = {f"dataset:pets/train#{i}.jpg": b"%d" % i * 50 for i in range(300)}
    records = check_source(open_source(dataset), expected)
    assert [record.label for record in records[:4]] == [None, "ant", "bee", None]
    assert {record.label for record in open_source([dataset], labels="none").scan()} == {None}


def test_lists_files_and_nested_columns(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"file")
    file = str(tmp_path / "x.jpg")
    rows = [[{"bytes": b"a", "path": None}, {"bytes": None, "path": file}], [], None]
    dataset = stand_in({"images": pa.array(rows, pa.list_(STRUCT))})
    check_source(open_source(dataset), {"dataset:pets/train#0.0": b"a", file: b"file"})
    rows = [{"in": {"bytes": b"b", "path": None}, "out": 1}, {"in": None, "out": 2}]
    dataset = stand_in({"sample": rows}, name=None, split=None)
    records = list(open_source(dataset, label_column="sample.out").scan())
    assert [(record.id, record.label) for record in records] == [
        ("dataset:unnamed#0", "1"),
        ("dataset:unnamed#1", "2"),
    ]
    with ImageReader() as reader:
        assert reader.read(records[0]) == b"b"
        with pytest.raises(DecodeError, match="the bytes are null"):
            reader.read(records[1])


def test_equal_names_and_datasets_that_are_gone() -> None:
    one, two = (stand_in({"image": pa.array([b"%d" % i], pa.binary())}) for i in range(2))
    source = open_source([one, two])
    check_source(source, {"dataset:pets/train#0": b"0", "dataset:pets/train@2#0": b"1"})
    check_source(open_source(two), ["dataset:pets/train@2#0"])
    record = next(iter(source.scan()))
    del source, one
    gc.collect()
    with ImageReader() as reader, pytest.raises(DecodeError, match="isn't open in this process"):
        reader.read(record)


def test_what_is_no_dataset() -> None:
    class Splits(dict[str, StandIn]):
        def with_format(self, kind: str) -> None: ...

    class Streamed:
        def with_format(self, kind: str) -> None: ...

    with pytest.raises(SourceError, match=r"several splits: pass one of them.*dataset\['test'\]"):
        open_source(Splits(test=stand_in({"image": [b"x"]})))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="without streaming"):
        open_source(Streamed())  # type: ignore[arg-type]


class Hub(MemoryFileSystem):  # type: ignore[misc]
    protocol = "hf"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hf://").strip("/")


@pytest.fixture
def hub() -> Iterator[Hub]:
    fsspec.register_implementation("hf", Hub, clobber=True)
    hub = Hub()
    yield hub
    hub.store.clear()
    fsspec.register_implementation("hf", "huggingface_hub.HfFileSystem", clobber=True)


def test_repositories(hub: Hub) -> None:
    root = "hf://datasets/user/pets"
    for number in range(2):
        images = [{"bytes": b"%d" % number, "path": "a.jpg"}]
        with hub.open(f"{root}/data/train-{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"image": pa.array(images, STRUCT)}), file)
    hub.pipe_file(f"{root}/README.md", b"# pets")
    hub.pipe_file(f"{root}/extra/b.jpg", b"b")
    tables = [f"{root}/data/train-{number}.parquet#a.jpg" for number in range(2)]
    expected = dict(zip(tables, [b"0", b"1"], strict=True))
    files = {f"{root}/README.md": b"# pets", f"{root}/extra/b.jpg": b"b"}
    records = list(open_source(root).scan())
    assert [record.id for record in records] == [
        f"{root}/README.md",
        *tables,
        f"{root}/extra/b.jpg",
    ]
    with ImageReader() as reader:
        assert {record.id: reader.read(record) for record in records} == expected | files
    check_source(open_source(f"{root}/data/*.parquet"), expected)
    with pytest.raises(SourceError, match="no such file"):
        open_source(f"{root}/gone")
    assert isinstance(records[0], ImageRecord)
