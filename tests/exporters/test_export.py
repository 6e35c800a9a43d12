"""What is exported is what the usual tools read."""

import json
import os
from pathlib import Path

import duckdb
import lancedb
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest
from store_contents import make_content, make_rows, write_folder, write_shard_file

from embedkit.errors import StoreCorruptError, StoreError
from embedkit.exporters.export import export
from embedkit.store import EmbeddingStore, verify

NAMES = ["a.jpg", "b/ü.jpg", "c\udcff.jpg", "d.jpg", "e.jpg"]
SHOWN = ["a.jpg", "b/ü.jpg", r"c\xff.jpg", "d.jpg", "e.jpg"]
LABELS = ["x", None, "\udcfe", None, "y"]


@pytest.fixture(params=["file", "folder"])
def store(request, tmp_path):
    rows = make_rows(5, ids=NAMES, labels=LABELS)
    if request.param == "file":
        return write_shard_file(tmp_path / "store.h5", make_content(rows))
    parts = [make_content(rows.rows(0, 2)), make_content(None), make_content(rows.rows(2, 5))]
    return write_folder(tmp_path / "store", parts)


def test_parquet_reads_in_pandas_polars_and_duckdb(store, tmp_path):
    output = export(store, tmp_path / "out.parquet", to="parquet")
    with EmbeddingStore.open(store) as opened:
        rows, phash = opened.to_numpy(np.float32), opened.images("phash").tolist()
        hashes = [row.tobytes() for row in opened.images("content_hash")]
    frame = pandas.read_parquet(output)
    assert frame["id"].tolist() == SHOWN
    assert np.array_equal(np.stack(frame["embedding"]), rows)
    assert frame["phash"].tolist() == phash
    assert frame["content_hash"].tolist() == hashes
    table = polars.read_parquet(output)
    assert table["id"].to_list() == SHOWN
    assert table["label"].to_list() == ["x", None, r"\xfe", None, "y"]
    assert np.array_equal(table["embedding"].to_numpy(), rows)
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT id, embedding[1] FROM read_parquet(?) ORDER BY id", [str(output)]
        ).fetchall()
    assert found == list(zip(SHOWN, rows[:, 0].tolist(), strict=True))
    meta = json.loads(pq.read_schema(output).metadata[b"embedkit"])
    assert meta["backbone"] == "tiny"


def test_npy_is_laid_out_as_by_clip_retrieval(store, tmp_path):
    output = export(store, tmp_path / "out", to="npy")
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.*")) == [
        "img_emb/img_emb_0.npy",
        "metadata/metadata_0.parquet",
    ]
    rows = np.load(output / "img_emb" / "img_emb_0.npy", mmap_mode="r")
    with EmbeddingStore.open(store) as opened:
        assert rows.dtype == np.float16
        assert np.array_equal(rows, opened.to_numpy())
    metadata = pandas.read_parquet(output / "metadata" / "metadata_0.parquet")
    assert metadata["image_path"].tolist() == SHOWN
    assert "embedding" not in metadata


def test_lancedb_holds_the_rows_and_finds_them(store, tmp_path):
    output = export(store, tmp_path / "out", to="lancedb")
    with EmbeddingStore.open(store) as opened:
        rows, phash = opened.to_numpy(np.float32), opened.images("phash").tolist()
    table = lancedb.connect(output).open_table("images")
    found = table.to_arrow()
    assert found["id"].to_pylist() == SHOWN
    assert found["label"].to_pylist() == ["x", None, r"\xfe", None, "y"]
    assert found["phash"].to_pylist() == phash
    assert np.array_equal(np.stack(found["vector"].to_pylist()), rows)
    nearest = table.search(rows[3]).limit(1).to_arrow()
    assert nearest["id"].to_pylist() == [SHOWN[3]]
    assert json.loads(table.schema.metadata[b"embedkit"])["backbone"] == "tiny"


def test_h5_is_a_store(store, tmp_path):
    output = export(store, tmp_path / "out.h5", to="h5")
    assert verify(output) == []
    with EmbeddingStore.open(store) as a, EmbeddingStore.open(output) as b:
        assert list(a.ids) == list(b.ids) == NAMES
        assert a.labels == b.labels


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb"])
def test_an_empty_store(tmp_path, to):
    store = write_shard_file(tmp_path / "a.h5", make_content(None))
    output = export(store, tmp_path / "out", to=to)
    if to == "npy":
        assert np.load(output / "img_emb" / "img_emb_0.npy").shape == (0, 4)
        assert len(pandas.read_parquet(output / "metadata" / "metadata_0.parquet")) == 0
    elif to == "parquet":
        assert polars.read_parquet(output).shape[0] == 0
    elif to == "lancedb":
        assert lancedb.connect(output).open_table("images").count_rows() == 0
    else:
        assert verify(output) == []


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb", "atlas"])
def test_what_exists_is_replaced_only_when_told(store, tmp_path, to):
    output = tmp_path / "out"
    for overwrite in (False, True, True):
        if overwrite:
            with pytest.raises(StoreError, match="exists already"):
                export(store, output, to=to)
        export(store, output, to=to, overwrite=overwrite)
    assert {path.name for path in tmp_path.iterdir()} == {"out", store.name}


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb", "atlas"])
def test_what_isn_t_an_export_is_never_replaced(store, tmp_path, to):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="is a folder"):
        export(store, tmp_path / "mine", to=to, overwrite=True)
    with pytest.raises(StoreError, match="is the store itself"):
        export(store, store, to=to, overwrite=True)
    if store.is_dir():
        with pytest.raises(StoreError, match="is the store itself"):
            export(store, store / "shard-000000.h5", to=to, overwrite=True)
    assert verify(store) == []
    assert (tmp_path / "mine" / "letter.txt").exists()


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb"])
def test_no_place_to_write(store, tmp_path, to):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written"):
        export(store, tmp_path / "file" / "out", to=to)
    with pytest.raises(StoreError, match="no such file"):
        export(tmp_path / "missing.h5", tmp_path / "out", to=to)
    assert {path.name for path in tmp_path.iterdir()} == {"file", store.name}


def test_unknown_format(store, tmp_path):
    with pytest.raises(ValueError, match="can't export to 'csv'"):
        export(store, tmp_path / "out", to="csv")
    with pytest.raises(ValueError, match=r"'torch': .*StoreDataset reads the store itself"):
        export(store, tmp_path / "out", to="torch")


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_never_replaced(store, tmp_path, to, overwrite):
    os.mkfifo(tmp_path / "fifo")
    for output in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(StoreError, match="neither a file nor a folder"):
            export(store, output, to=to, overwrite=overwrite)
    assert (tmp_path / "fifo").is_fifo()
    assert Path("/dev/null").is_char_device()
    assert {path.name for path in tmp_path.iterdir()} == {"fifo", store.name}


def test_npy_never_replaces_a_file(store, tmp_path):
    (tmp_path / "out").write_text("dear")
    with pytest.raises(StoreError, match="is a file, and no export"):
        export(store, tmp_path / "out", to="npy", overwrite=True)
    assert (tmp_path / "out").read_text() == "dear"


def test_npy_leaves_a_folder_beside_it_alone(store, tmp_path):
    letter = tmp_path / "out.tmp" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    export(store, tmp_path / "out", to="npy")
    assert letter.read_text() == "dear"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.tmp", store.name}
    assert (tmp_path / "out").stat().st_mode == letter.parent.stat().st_mode


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_npy_exports_to_one_output(store, tmp_path, monkeypatch, overwrite):
    from embedkit.exporters import export as exporting

    output, write = tmp_path / "out", exporting._write_npy

    def write_beside_another(opened, path):
        write(opened, path)
        monkeypatch.setattr(exporting, "_write_npy", write)
        export(store, output, to="npy")

    monkeypatch.setattr(exporting, "_write_npy", write_beside_another)
    if overwrite:
        export(store, output, to="npy", overwrite=True)
    else:
        with pytest.raises(StoreError, match="can't be written"):
            export(store, output, to="npy")
    assert len(np.load(output / "img_emb" / "img_emb_0.npy")) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"out", store.name}


@pytest.mark.parametrize("to", ["npy", "parquet", "h5", "lancedb"])
def test_a_damaged_store_is_refused(store, tmp_path, to):
    shard = store / "shard-000002.h5" if store.is_dir() else store
    with EmbeddingStore.open(shard) as opened:
        rows = np.ascontiguousarray(opened.embeddings).tobytes()
    data = bytearray(shard.read_bytes())
    data[data.index(rows)] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=rf"{shard.name}: damaged"):
        export(store, tmp_path / "out", to=to)
    assert {path.name for path in tmp_path.iterdir()} == {store.name}
