import csv
import io
import json
import sys

import numpy as np
import pandas
import pytest
import safetensors.torch

from embedkit.backbones.tiny import TinyNet
from embedkit.index import Index
from embedkit.store import EmbeddingStore


@pytest.fixture
def index(store):
    """An index of the eight photos, beside their store."""
    return Index.build(store, store.with_suffix(".index"))


def table(out):
    """The lines of the tables: ``(rank, score, id)``."""
    rows = [line.split() for line in out.splitlines()]
    return [(int(r[0]), float(r[1]), r[2]) for r in rows if len(r) == 3 and r[0].isdigit()]


def test_an_image_finds_itself_first(embedkit, index, photos):
    query = photos / "photo_0003.jpg"
    ended = embedkit("search", index, query, "-k", 3)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == str(query)
    rows = table(ended.out)
    assert [rank for rank, _, _ in rows] == [1, 2, 3]
    assert rows[0][1:] == (1.0, str(query))
    assert rows[0][1] >= rows[1][1] >= rows[2][1]


def test_json(embedkit, index, store, photos):
    ended = embedkit("search", index, store, "-k", 2, "--json", "--exclude-self")
    told = ended.json
    assert (told["k"], told["failures"]) == (2, [])
    assert [found["query"] for found in told["queries"]] == sorted(map(str, photos.iterdir()))
    for found in told["queries"]:
        assert [near["rank"] for near in found["neighbors"]] == [1, 2]
        assert found["query"] not in {near["id"] for near in found["neighbors"]}


def test_ids_filters_and_threshold(embedkit, index, photos):
    name = photos / "photo_0003.jpg"
    told = embedkit("search", index, f"id:{name}", "--filter", "path=*[0-4].jpg", "--json").json
    (found,) = told["queries"]
    assert sorted(near["id"] for near in found["neighbors"]) == [
        str(photos / f"photo_000{n}.jpg") for n in range(5)
    ]
    limit = found["neighbors"][1]["score"]
    told = embedkit(
        "search", index, f"id:{name}", "--filter", "path=*[0-4].jpg", "--filter", "width=320",
        "--threshold", limit, "--json",
    ).json  # fmt: skip
    assert len(told["queries"][0]["neighbors"]) == 2
    none = embedkit("search", index, f"id:{name}", "--filter", "width>320")
    assert (none.code, table(none.out)) == (0, [])
    assert "no neighbors" in none.out


def test_the_store_by_name(embedkit, index, store, photos):
    moved = store.rename(store.with_name("moved.h5"))
    query = f"id:{photos / 'photo_0001.jpg'}"
    ended = embedkit("search", index, query)
    assert ended.code == 1
    assert "--store FILE" in ended.err
    assert embedkit("search", index, query, "--store", moved).code == 0


def test_bad_queries_are_told_and_the_code_is_3(embedkit, index, photos, tmp_path):
    (tmp_path / "bad\x1b[31m.jpg").write_bytes(b"")
    good = photos / "photo_0001.jpg"
    ended = embedkit("search", index, tmp_path / "bad\x1b[31m.jpg", good, "id:nope", "-k", 1)
    assert ended.code == 3
    assert "empty file" in ended.err
    assert "nope: no image of this id" in ended.err
    assert "\x1b" not in ended.err
    assert table(ended.out) == [(1, 1.0, str(good))]
    told = embedkit("search", index, tmp_path, good, "--json")
    assert told.code == 3
    assert "empty file" in told.json["failures"][0]["reason"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files(embedkit, index, store, photos, tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    ended = embedkit("search", index, photos, "-k", 3, "-o", output)
    assert ended.out == f"{output}: 24 neighbors of 8 queries\n"
    if suffix == "csv":
        with output.open() as file:
            ids = [row["query_id"] for row in csv.DictReader(file)]
    elif suffix == "jsonl":
        ids = [json.loads(line)["query_id"] for line in output.read_text().splitlines()]
    else:
        ids = pandas.read_parquet(output)["query_id"].tolist()
    assert ids[::3] == sorted(map(str, photos.iterdir()))
    again = embedkit("search", index, photos, "-k", 3, "-o", output)
    assert again.code == 1
    assert "--overwrite" in again.err
    told = embedkit("search", index, store, "-k", 3, "-o", output, "--overwrite", "--json").json
    assert (told["queries"], told["neighbors"], told["resumed"]) == (8, 24, 0)


def test_page(embedkit, index, photos, tmp_path):
    html, output = tmp_path / "out.html", tmp_path / "out.csv"
    ended = embedkit("search", index, photos, "-k", 2, "--html", html, "-o", output)
    assert ended.code == 0
    assert "written (open it in a browser)" in ended.out
    page = html.read_text()
    assert page.count("<img ") == 24
    assert "Neighbors per query" in page
    assert len(output.read_text().splitlines()) == 17
    again = embedkit("search", index, photos, "--html", html)
    assert again.code == 1
    assert "--overwrite" in again.err
    told = embedkit("search", index, photos, "--html", html, "--overwrite", "--json").json
    assert (told["html"], len(told["queries"])) == (str(html), 8)


def test_usage(embedkit, index, photos, tmp_path):
    assert embedkit("search", index).code == 2
    assert embedkit("search", index, photos, "-k", 0).code == 2
    wrong = embedkit("search", index, photos, "--filter", "colour=red")
    assert wrong.code == 1
    assert "no column colour" in wrong.err
    assert embedkit("search", index, photos, "-o", tmp_path / "out.xlsx").code == 1
    assert embedkit("search", tmp_path, photos).code == 1
    missing = embedkit("search", index, tmp_path / "none.jpg")
    assert (missing.code, missing.err.count("\n")) == (1, 1)


def test_other_weights(embedkit, photos, tmp_path):
    embedkit("extract", photos, "-o", tmp_path / "a.h5", "-b", "tiny", "--seed", 5)
    a = Index.build(tmp_path / "a.h5", tmp_path / "a.index")
    query = photos / "photo_0001.jpg"
    assert embedkit("search", a, query).code == 0
    assert embedkit("search", a, query, "--weights", "random").code == 0  # by the stored seed
    safetensors.torch.save_file(TinyNet().state_dict(), tmp_path / "other.safetensors")
    ended = embedkit("search", a, query, "--weights", tmp_path / "other.safetensors")
    assert ended.code == 1
    assert "--weights FILE" in ended.err


def test_paths_on_stdin(embedkit, index, photos, monkeypatch):
    names = [str(photos / f"photo_000{n}.jpg") for n in (6, 1)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    ended = embedkit("search", index, "-", "-k", 1)
    assert [name for _, _, name in table(ended.out)] == names


def test_vectors_of_a_numpy_file(embedkit, index, store, tmp_path):
    with EmbeddingStore.open(store) as opened:
        rows, ids = opened.to_numpy(), list(opened.ids)
    for name, array in (("all.npy", rows[2:5]), ("one.npy", rows[6].astype(np.float64))):
        np.save(tmp_path / name, array)
    options = ("--vectors", tmp_path / "all.npy", "--vectors", tmp_path / "one.npy", "-k", 1)
    found = embedkit("search", index, *options, "--json").json["queries"]
    assert [one["neighbors"][0]["id"] for one in found] == [*ids[2:5], ids[6]]
    assert [one["query"] for one in found] == [f"vector {number}" for number in range(4)]
    written = tmp_path / "found.jsonl"
    assert embedkit("search", index, *options, "-o", written).code == 0
    assert len(written.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.arange(8), "vectors are (n, D) floats"),
        (np.array([{}, []], object), "no .npy file of numbers"),
        (np.zeros((2, 3, 4), np.float32), "vectors are (n, D) floats"),
        (np.zeros((2, 3), np.float32), "it must be"),
        (b"no array at all", "no .npy file of numbers"),
        (None, "No such file"),
    ],
)
def test_vectors_that_are_none(embedkit, index, tmp_path, array, reason):
    path = tmp_path / "a.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array, allow_pickle=True)
    ended = embedkit("search", index, "--vectors", path)
    assert ended.code == 1
    assert reason in ended.err
    assert embedkit("search", index).code == 2
