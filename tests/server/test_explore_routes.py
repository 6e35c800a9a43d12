"""The map, clusters, quality lists, outliers, label doubts and named selections."""

import io
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from services import serving

import embedkit
from embedkit.analysis.embedding_map.layout import SAMPLE, lay_out_store
from embedkit.index.store_rows import StoreRows


def waited(client, path):
    """The answer, once it is computed."""
    for _ in range(300):
        response = client.get(path)
        if response.status_code != 202:
            return response
        assert int(response.headers["retry-after"]) >= 1
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def test_the_map_is_that_of_the_library(client, folder):
    assert waited(client, "/v1/map").json()["n"] == 22
    points = np.frombuffer(client.get("/v1/map/points").content, "<f4").reshape(-1, 2)
    with StoreRows.open([folder / "photos.h5"]) as rows:
        assert np.array_equal(points, lay_out_store(rows, "auto", SAMPLE, 0).points)
    shown = client.get("/v1/map/ids?rows=3,0").json()["items"]
    with embedkit.EmbeddingStore.open(folder / "photos.h5") as store:
        assert [one["name"] for one in shown] == [store.ids[3], store.ids[0]]
        found = client.get("/v1/map/column?name=label").json()
        assert [found["categories"][code] for code in found["codes"]] == store.labels
        widths = client.get("/v1/map/column?name=width").json()["values"]
        assert widths == store.images("width").tolist()


@pytest.mark.parametrize("query", ["?rows=22", "?rows=a", "?rows=-1", "", "?rows=" + "1," * 501])
def test_rows_that_arent_there_are_refused(client, query):
    assert client.get(f"/v1/map/ids{query}").status_code == 400


def test_the_map_is_kept_for_the_next_start(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    with serving(folder / "photos.h5") as client:
        assert waited(client, "/v1/map").json()["n"] == 22
        points = client.get("/v1/map/points").content
    monkeypatch.setattr(
        "embedkit.analysis.embedding_map.layout.lay_out_store", lambda *_: pytest.fail("again")
    )
    with serving(folder / "photos.h5") as client:
        assert waited(client, "/v1/map").json()["n"] == 22
        assert client.get("/v1/map/points").content == points
    monkeypatch.undo()
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache" / "maps").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])  # a damaged one is made anew
    with serving(folder / "photos.h5") as client:
        assert waited(client, "/v1/map").json()["n"] == 22
        assert client.get("/v1/map/points").content == points


def test_clusters_show_their_most_typical_images(client, folder):
    found = client.get("/v1/clusters").json()["clusters"]
    with embedkit.EmbeddingStore.open(folder / "photos.h5") as store:
        numbers, distances = store.images("cluster"), store.images("cluster_distance")
        ids = np.array(store.ids[:])
    assert [one["cluster"] for one in found] == sorted({*numbers.tolist()})
    for one in found:
        mine = np.flatnonzero(numbers == one["cluster"])
        assert one["size"] == len(mine)
        nearest = ids[mine[np.argsort(distances[mine], kind="stable")]][:8]
        assert [item["name"] for item in one["examples"]] == nearest.tolist()
        assert one["name"] in {"cat", "dog"}


def test_quality_lists_are_those_of_the_library(client, folder):
    report = embedkit.find_quality_issues(folder / "photos.h5")
    problems = waited(client, "/v1/quality").json()["problems"]
    for one in problems:
        assert one["count"] == report.counts[one["name"]]
        found = client.get(f"/v1/quality/{one['name']}?limit=1000").json()
        assert [(e["item"]["name"], e["value"]) for e in found["items"]] == [
            (issue.id, issue.value) for issue in report.of_kind(one["name"])
        ]
    assert {one["name"]: one["count"] for one in problems}["exact_duplicate"] == 1
    assert client.get("/v1/quality/nonsense").status_code == 404


@pytest.mark.parametrize("index", ["photos.index", "photos.h5"])
def test_outliers_and_doubts_are_those_of_the_library(client, folder, index):
    options = {"index": folder / index} if index == "photos.index" else {}
    found = embedkit.find_outliers(folder / "photos.h5", top=500, **options)
    shown = waited(client, f"/v1/outliers?index={index}").json()
    assert [one["item"]["name"] for one in shown["items"]] == [one.id for one in found.off_topic]
    shown = client.get(f"/v1/labels/doubts?limit=3&index={index}").json()
    assert shown["total"] == len(found.labels) > 3
    for entry, one in zip(shown["items"], found.labels, strict=False):
        assert (entry["item"]["name"], entry["value"]) == (one.id, one.score)
        assert one.suggested in entry["reason"]


def test_there_are_no_tabs_for_what_isnt_there(folder):
    from stores import write_store

    write_store(folder / "plain.h5", np.eye(9, 16, dtype=np.float32))
    with serving(folder / "plain.h5") as client:
        tabs = client.get("/v1/info").json()["tabs"]
        assert [name for name, is_there in tabs.items() if is_there] == [
            "map", "quality", "outliers"
        ]  # fmt: skip
        for path in ("/v1/clusters", "/v1/labels/doubts", "/v1/review"):
            assert client.get(path).status_code == 404


def test_a_selection_is_named_listed_exported_and_removed(client, folder):
    cats = client.get("/v1/items?filter=label=cat&limit=3").json()["items"]
    for body in (
        {"name": "mine", "ids": [one["id"] for one in cats]},
        {"name": "mine", "filter": ["label=cat"]},
        {"name": "mine", "rows": [3, 1, 1]},
    ):
        made = client.post("/v1/selections", json=body)
        assert made.status_code == 201
        (listed,) = client.get("/v1/selections").json()["selections"]
        assert listed == made.json()
        found = client.get("/v1/items?filter=selection:mine&limit=100").json()
        assert found["total"] == listed["size"]
        ids = [one["name"] for one in found["items"]]
        text = client.get("/v1/selections/mine?format=ids")
        assert text.text.splitlines() == ids
        assert "attachment" in text.headers["content-disposition"]
        csv = client.get("/v1/selections/mine?format=csv").text.splitlines()
        assert csv[0] == "id,label,row"
        assert [line.split(",")[0] for line in csv[1:]] == ids
        parquet = client.get("/v1/selections/mine?format=parquet").content
        assert pq.read_table(io.BytesIO(parquet))["id"].to_pylist() == ids
        result = embedkit.search(folder / "photos.h5", f"id:{ids[0]}", filters=["selection:mine"])
        assert {*result.neighbors.ids[0]} == {*ids[:10]} or len(ids) > 10
    assert client.delete("/v1/selections/mine").status_code == 200
    assert client.get("/v1/selections").json() == {"selections": []}
    for answer in (client.get("/v1/selections/mine"), client.delete("/v1/selections/mine")):
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "mine"}, {"name": "", "rows": [1]}, {"name": "../x", "rows": [1]},
        {"name": "mine", "rows": []}, {"name": "mine", "rows": [22]},
        {"name": "mine", "rows": [-1]}, {"name": "mine", "rows": [True]},
        {"name": "mine", "ids": ["photos/cat/photo_0001.jpg"]},
        {"name": "mine", "filter": ["label=cow"]}, {"name": "mine", "filter": ["nonsense"]},
        {"name": "mine", "rows": [1], "ids": ["x"]}, {"rows": [1], "ids": ["x"]}, ["mine"],
    ],
)  # fmt: skip
def test_selections_that_cant_be_made(client, folder, body):
    assert client.post("/v1/selections", json=body).status_code == 400
    assert not (folder / "photos.h5.selections").exists()


def test_a_selection_of_several_stores(folder):
    embedkit.extract("photos/cat", "more.h5", backbone="tiny", prefix="more")
    embedkit.Index.build(["photos.h5", "more.h5"], "both.index")
    with serving(folder / "both.index", show_paths=True) as client:
        rows = [0, 21, 22, 30]
        client.post("/v1/selections", json={"name": "mine", "rows": rows})
        shown = client.get("/v1/items?filter=selection:mine").json()["items"]
        expected = client.get("/v1/map/ids?rows=0,21,22,30").json()["items"]
        assert shown == expected
        client.post("/v1/selections", json={"name": "mine", "rows": [30]})
        assert client.get("/v1/items?filter=selection:mine").json()["total"] == 1
        query = {"id": expected[3]["id"]}
        assert client.post("/v1/search?k=3", json=query).status_code == 200
        assert client.delete("/v1/selections/mine").status_code == 200
        assert not list(folder.glob("*.selections/*"))
