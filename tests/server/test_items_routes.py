"""Lists, details, columns and pictures of images."""

import io
import zipfile

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image
from services import item_of, serving

import embedkit


def names(response):
    assert response.status_code == 200, response.text
    return [one["name"] for one in response.json()["items"]]


def test_items_are_listed_in_parts(client):
    whole = names(client.get("/v1/items?limit=100"))
    assert len(whole) == 22
    parts = [names(client.get(f"/v1/items?limit=9&offset={n}")) for n in (0, 9, 18, 27)]
    assert [len(part) for part in parts] == [9, 9, 4, 0]
    assert [one for part in parts for one in part] == whole
    assert client.get("/v1/items?limit=9").json()["total"] == 22


def test_filters_are_those_of_the_library(client, folder):
    with embedkit.EmbeddingStore.open(folder / "photos.h5") as store:
        wide = store.images("width") >= 300
        labels = np.array(store.labels) == "dog"
        cluster = store.images("cluster") == 1
        ids = np.array(store.ids[:])
    for query, expected in (
        ("filter=width>=300", wide),
        ("filter=label=dog", labels),
        ("filter=label!=dog&filter=width<300", ~labels & ~wide),
        ("filter=cluster=1", cluster),
        ("filter=format=jpeg&filter=path=*/cat/*", ~labels),
    ):
        found = client.get(f"/v1/items?limit=100&{query}")
        assert names(found) == ids[expected].tolist()
        assert found.json()["total"] == expected.sum()


def test_sorting_by_any_column(client, folder):
    with embedkit.EmbeddingStore.open(folder / "photos.h5") as store:
        nbytes = dict(zip(store.ids[:], store.images("nbytes").tolist(), strict=True))
    up = names(client.get("/v1/items?limit=100&sort=nbytes"))
    assert [nbytes[name] for name in up] == sorted(nbytes.values())
    down = names(client.get("/v1/items?limit=100&sort=nbytes&order=desc"))
    assert [nbytes[name] for name in down] == sorted(nbytes.values(), reverse=True)
    for one in client.get("/v1/columns").json()["columns"]:
        assert len(names(client.get(f"/v1/items?limit=100&sort={one['name']}"))) == 22
    assert client.get("/v1/items?sort=other").status_code == 400


def test_what_has_no_value_comes_last_both_ways(folder):
    table = folder / "notes.csv"
    table.write_text("id,stars\nphotos/cat/photo_0001.jpg,3\nphotos/cat/photo_0002.jpg,5\n")
    embedkit.annotate("photos.h5", table)
    with serving(folder / "photos.h5", show_paths=True) as client:
        for order, first in (("asc", ["1", "2"]), ("desc", ["2", "1"])):
            found = names(client.get(f"/v1/items?sort=stars&order={order}"))
            assert found[:2] == [f"photos/cat/photo_000{n}.jpg" for n in first]
            assert len(found) == 22
        item = item_of(client, "photo_0001.jpg")
        assert client.get(f"/v1/items/{item['id']}").json()["columns"]["stars"] == 3
        other = item_of(client, "photo_0003.jpg")
        assert client.get(f"/v1/items/{other['id']}").json()["columns"]["stars"] is None
        described = {one["name"]: one for one in client.get("/v1/columns").json()["columns"]}
        assert (described["stars"]["min"], described["stars"]["max"]) == (3, 5)
        colours = client.get("/v1/map/column?name=stars").json()["values"]
        assert sorted(value for value in colours if value is not None) == [3, 5]


def test_the_time_of_photographs_without_one_is_missing(client):
    item = item_of(client, "photos/dog/photo_0003.jpg")
    assert client.get(f"/v1/items/{item['id']}").json()["columns"]["captured"] is None
    described = {one["name"]: one for one in client.get("/v1/columns").json()["columns"]}
    assert described["captured"]["min"] is None
    assert set(client.get("/v1/map/column?name=captured").json()["values"]) == {None}


def test_details_of_an_image(client):
    item = item_of(client, "photos/dog/photo_0003.jpg")
    found = client.get(f"/v1/items/{item['id']}").json()
    assert found["item"] == item
    assert found["item"] | {"id": ""} == {
        "id": "", "name": "photos/dog/photo_0003.jpg", "width": 320, "height": 240, "label": "dog",
        "has_image": True,
    }  # fmt: skip
    assert found["columns"]["format"] == "JPEG"
    assert found["columns"]["aspect"] == pytest.approx(4 / 3)
    assert "id:photos/dog/photo_0003.jpg" in found["command"]
    for key in ("0" * 16, "x", "photos"):
        assert client.get(f"/v1/items/{key}").status_code == 404


def test_columns_say_what_can_be_filtered(client):
    found = {one["name"]: one for one in client.get("/v1/columns").json()["columns"]}
    assert found["label"]["kind"] == "category"
    assert found["label"]["values"] == [
        {"value": "cat", "count": 13}, {"value": "dog", "count": 9}
    ]  # fmt: skip
    assert (found["width"]["kind"], found["width"]["min"], found["width"]["max"]) == (
        "number", 240, 320
    )  # fmt: skip
    for one in found.values():
        for value in one["values"][:3]:
            shown = client.get("/v1/items", params={"filter": f"{one['name']}={value['value']}"})
            assert shown.json()["total"] == value["count"]


def test_ids_stay_the_same_and_tell_no_path(folder):
    seen = []
    for index in ("photos.index", "photos.h5"):
        with serving(folder / index) as client:
            seen.append([one["id"] for one in client.get("/v1/items").json()["items"]])
    assert seen[0] == seen[1]
    with serving(folder / "photos.h5", token="another secret, a long one") as client:
        client.headers["Authorization"] = "Bearer another secret, a long one"
        assert not {*seen[0]} & {one["id"] for one in client.get("/v1/items").json()["items"]}


def test_thumbnails_are_small_jpegs_that_browsers_keep(client):
    item = item_of(client, "photo_0001.jpg")
    for size, shown in ((128, (128, 96)), (256, (256, 192)), (512, (320, 240))):
        response = client.get(f"/thumb/{item['id']}?size={size}")
        with Image.open(io.BytesIO(response.content)) as image:
            assert (image.format, image.size) == ("JPEG", shown)
        assert "private" in response.headers["cache-control"]
        again = client.get(
            f"/thumb/{item['id']}?size={size}", headers={"If-None-Match": response.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/thumb/{item['id']}?size=9999").status_code == 400


def test_the_original_is_the_file_itself(client, folder):
    item = item_of(client, "photos/cat/photo_0001.jpg")
    response = client.get(f"/image/{item['id']}")
    assert response.content == (folder / "photos/cat/photo_0001.jpg").read_bytes()
    assert response.headers["content-type"] == "image/jpeg"


def test_an_image_that_is_gone_or_another_by_now_isnt_shown(client, folder):
    gone, other = item_of(client, "cat/photo_0001.jpg"), item_of(client, "cat/photo_0002.jpg")
    (folder / "photos/cat/photo_0001.jpg").unlink()
    (folder / "photos/cat/photo_0002.jpg").write_bytes(encode(draw_photo(77), "JPEG"))
    for item, reason in ((gone, ""), (other, "bytes are others")):
        for path in (f"/thumb/{item['id']}", f"/image/{item['id']}"):
            response = client.get(path)
            assert response.status_code == 404
            assert reason in response.json()["error"]
    assert item_of(client, "cat/photo_0001.jpg")["has_image"] is False


def test_images_of_archives_and_other_formats_are_shown(folder):
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("a/one.png", encode(draw_photo(1), "PNG"))
        archive.writestr("a/two.tif", encode(draw_photo(2), "TIFF"))
        archive.writestr("a/three.bmp", encode(draw_photo(3), "BMP"))
    embedkit.extract("more.zip", "more.h5", backbone="tiny")
    with serving(folder / "more.h5") as client:
        kinds = {}
        for item in client.get("/v1/items").json()["items"]:
            assert item["has_image"] is True
            response = client.get(f"/image/{item['id']}")
            kinds[item["name"]] = response.headers["content-type"]
            with Image.open(io.BytesIO(response.content)) as image:
                assert image.size == (320, 240)
            assert client.get(f"/thumb/{item['id']}").status_code == 200
        assert kinds == dict.fromkeys(("one.png", "two.tif", "three.bmp"), "image/png")


def test_images_that_were_moved_are_found_below_another_folder(folder):
    (folder / "photos").rename(folder / "moved")
    with serving(folder / "photos.h5") as client:
        assert not client.get("/v1/items").json()["items"][0]["has_image"]
    with serving(folder / "photos.h5", images=[folder / "moved"]) as client:
        item = client.get("/v1/items").json()["items"][0]
        assert item["has_image"] is True
        assert client.get(f"/thumb/{item['id']}").status_code == 200
    with serving(folder / "photos.h5", images=[folder / "dups"]) as client:
        item = client.get("/v1/items").json()["items"][0]
        assert item["has_image"] is False
        assert client.get(f"/thumb/{item['id']}").status_code == 404


def test_urls_are_never_fetched(folder, monkeypatch):
    from stores import write_store

    def refuse(*_args, **_options):
        raise AssertionError("something was fetched")

    rows = np.eye(2, 16, dtype=np.float32)
    write_store(folder / "web.h5", rows, ids=["http://192.0.2.1/a.jpg", "s3://bucket/b.jpg"])
    monkeypatch.setattr("socket.socket.connect", refuse)
    with serving(folder / "web.h5") as client:
        for item in client.get("/v1/items").json()["items"]:
            assert item["has_image"] is False
            assert client.get(f"/thumb/{item['id']}").status_code == 404
            assert client.get(f"/image/{item['id']}").status_code == 404


def test_names_that_are_no_text_are_shown_escaped(folder):
    from stores import write_store

    rows = np.eye(2, 16, dtype=np.float32)
    write_store(folder / "odd.h5", rows, ids=["a/b\udcff.jpg", "a/<b>\n.jpg"])
    with serving(folder / "odd.h5") as client:
        shown = {one["name"] for one in client.get("/v1/items").json()["items"]}
        assert shown == {"b\\xff.jpg", "<b>\n.jpg"}


def test_images_removed_from_the_index_are_gone(folder):
    embedkit.Index.remove(folder / "photos.index", ["photos/cat/photo_0001.jpg"])
    with serving(folder / "photos.index", show_paths=True) as client:
        found = client.get("/v1/items?limit=100")
        assert found.json()["total"] == 21
        assert "photos/cat/photo_0001.jpg" not in names(found)
        assert client.get("/v1/info").json()["indexes"][0]["n_images"] == 21
