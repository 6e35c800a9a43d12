"""The file for embedding-atlas: its columns beside the store, and the real viewer on it."""

import hashlib
import io
import json
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from images import write_photos
from stores import write_store

import embedkit
from embedkit.errors import EmbedkitError, MissingExtraError, SourceError
from embedkit.exporters.atlas import write_atlas
from embedkit.exporters.export import export
from embedkit.index.store_rows import StoreRows
from embedkit.integrations.atlas import AtlasServer
from embedkit.store import EmbeddingStore
from embedkit.types import Head
from embedkit.utils.vectors import unit_rows

RNG = np.random.default_rng(0)
HOSTILE = "</script><img src=x onerror=alert(1)>.jpg"
ROWS = RNG.standard_normal((60, 6)).astype("f4")
HEAD = Head(np.eye(3, 6, dtype="f4"), np.zeros(3, "f4"), ("cat, kitty", "dog", "owl"))
DECODE = {
    "decoder": "exact", "background": [255, 255, 255], "max_pixels": 10**6, "max_bytes": 2**20,
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    paths = write_photos(tmp_path / "photos", 4)
    ids = [*map(str, paths), HOSTILE, "a\udcff.jpg", *(f"{n}.jpg" for n in range(54))]
    hashes = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    hashes += [b"%032d" % number for number in range(56)]
    return write_store(
        tmp_path / "photos.h5", ROWS, ids=ids, head=HEAD, content_hash=hashes, decode=DECODE,
        labels=["x", None, *["y"] * 58],
    )  # fmt: skip


def test_the_columns_are_those_of_the_store(store, tmp_path):
    output = export(store, tmp_path / "out.parquet", to="atlas")
    table = pq.read_table(output)
    found = table.to_pydict()
    with StoreRows.open([store]) as rows:
        expected = rows.stores[0].columns
    left_out = {"content_hash", "phash", "etag", "thumbnail"}
    assert set(found) == {
        "id", "label", "class", "image", "x", "y", "neighbors", *set(expected) - left_out,
    }  # fmt: skip
    assert found["id"][4:6] == [HOSTILE, r"a\xff.jpg"]
    assert found["label"][:3] == ["x", None, "y"]
    assert found["class"] == [("cat", "dog", "owl")[row[:3].argmax()] for row in ROWS]
    assert (found["width"], found["height"]) == ([64] * 60, [48] * 60)
    starts = [image and image[:23] for image in found["image"]]
    assert starts == ["data:image/jpeg;base64,"] * 4 + [None] * 56
    points = np.stack([found["x"], found["y"]], 1)
    assert np.ptp(points, axis=0).max() == pytest.approx(1, abs=1e-5)
    units = unit_rows(ROWS)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -2)
    for row, near in enumerate(found["neighbors"]):
        assert near["ids"] == np.argsort(-cosines[row], kind="stable")[:15].tolist()
        np.testing.assert_allclose(near["distances"], 1 - cosines[row, near["ids"]], atol=1e-5)


def test_no_integer_is_beyond_what_javascript_holds(tmp_path):
    write_photos(tmp_path / "photos", 3)
    embedkit.extract(tmp_path / "photos", tmp_path / "a.h5", backbone="tiny")
    table = pq.read_table(export(tmp_path / "a.h5", tmp_path / "a.parquet", to="atlas"))
    for field in table.schema:
        if pa.types.is_integer(field.type):
            values = [value for value in table[field.name].to_pylist() if value is not None]
            assert max(map(abs, values), default=0) < 2**53, field.name
    file = tmp_path / "photos" / "photo_0000.jpg"
    changed = datetime.fromtimestamp(file.stat().st_mtime, UTC).replace(tzinfo=None)
    assert abs(table["mtime"].to_pylist()[0] - changed) < timedelta(milliseconds=1)
    assert table["captured"].null_count == 3
    assert table["camera"].null_count == 3


def test_columns_of_annotate(store, tmp_path):
    with EmbeddingStore.open(store) as opened:
        ids = list(opened.ids)
    table = pa.table({"id": ids[:2], "year": [1999, 2**60], "owner": ["A", "B"], "x": [7.0, 8.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    embedkit.annotate(store, tmp_path / "t.parquet", key="id")
    write_atlas(store, tmp_path / "atlas.parquet", pictures=0)
    found = pq.read_table(tmp_path / "atlas.parquet")
    assert found["year"].to_pylist()[:3] == [1999.0, 2.0**60, None]
    assert found["owner"].to_pylist()[:3] == ["A", "B", None]
    assert max(found["x"].to_pylist()) <= 1  # the map's own


def test_few_images(tmp_path):
    for count in (0, 1, 3):
        store = write_store(tmp_path / f"{count}.h5", ROWS[:count], head_applies=False)
        table = pq.read_table(export(store, tmp_path / f"{count}.parquet", to="atlas"))
        assert "class" not in table.column_names
        assert [len(near["ids"]) for near in table["neighbors"].to_pylist()] == (
            [count - 1] * count
        )


def test_images_and_their_limits(store, tmp_path):
    output = tmp_path / "out.parquet"
    write_atlas(store, output, pictures=0)
    assert pq.read_table(output)["image"].null_count == 60
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError):
        write_atlas(store, output, images=[tmp_path / "none"])
    write_atlas(store, output, images=[tmp_path / "photos"], sample=10)
    assert pq.read_table(output)["image"].null_count == 56


def test_a_viewer_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "embedding_atlas", None)
    with pytest.raises(MissingExtraError, match=r"embedkit\[atlas\]"):
        AtlasServer(tmp_path / "x.parquet")


needs_atlas = pytest.mark.skipif(
    find_spec("embedding_atlas") is None, reason="needs embedding-atlas"
)


def asked(url, body=None):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(url, data), timeout=60) as answer:
        return answer.read()


@needs_atlas
def test_the_real_viewer_reads_it(store, tmp_path):
    output = export(store, tmp_path / "out.parquet", to="atlas")
    with AtlasServer(output) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert b"<html" in asked(server.url)
        props = json.loads(asked(f"{server.url}/data/metadata.json"))["props"]["data"]
        assert props["projection"] == {"x": "x", "y": "y"}
        assert props["neighbors"] == "neighbors"
        data = pq.read_table(io.BytesIO(asked(f"{server.url}/data/dataset.parquet")))
        own = pq.read_table(output)
        for name in ("id", "label", "class", "x", "y", "image", "width"):
            assert data[name].to_pylist() == own[name].to_pylist(), name
        query = {
            "type": "json",
            "sql": "SELECT id, x, neighbors.ids[1] AS near FROM dataset WHERE __row_index__ = 4",
        }
        (row,) = json.loads(asked(f"{server.url}/data/query", query))
        assert row["id"] == HOSTILE
        assert row["near"] == own["neighbors"][4].as_py()["ids"][0]
    with pytest.raises(OSError, match="refused"):
        asked(server.url)


@needs_atlas
def test_a_file_that_the_viewer_cannot_read(tmp_path):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"nothing")
    with pytest.raises(EmbedkitError, match=r"^embedding-atlas ended: .*[Pp]arquet"):
        AtlasServer(bad)
