"""Searches of the service are those of ``embedkit.search``, to the last bit."""

from concurrent.futures import ThreadPoolExecutor
from shlex import split

import numpy as np
import pytest
from images import encode
from PIL import Image
from services import item_of, serving, upload

import embedkit


def found_by(response):
    assert response.status_code == 200, response.text
    return [(one["item"]["name"], one["score"]) for one in response.json()["results"]]


def expected(index, query, k=10, **options):
    found = embedkit.search(index, query, k, **options).neighbors
    scores = [float(str(score)) for score in found.scores[0]]
    return list(zip(found.ids[0], scores, strict=False))


@pytest.mark.parametrize("index", ["photos.index", "photos.h5"])
@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "multipart"])
def test_an_image_finds_what_the_library_finds(client, folder, index, kind):
    path = folder / "photos/cat/photo_0003.jpg"
    address = f"/v1/search?k=7&index={index}"
    if kind == "multipart":
        response = client.post(address, files={"image": path.read_bytes()})
    else:
        headers = {"Content-Type": kind}
        response = client.post(address, content=path.read_bytes(), headers=headers)
    assert found_by(response) == expected(folder / index, path, 7)
    assert response.json()["total"] == 22


@pytest.mark.parametrize("index", ["photos.index", "photos.h5"])
def test_many_images_at_once_find_what_each_finds_alone(client, folder, index):
    paths = sorted((folder / "photos").rglob("*.jpg"))

    def search(path):
        return found_by(upload(client, path, f"?k=5&index={index}"))

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(search, paths))
    assert found == [expected(folder / index, path, 5) for path in paths]
    assert "embedkit_batch_images_count" in client.get("/metrics").text


@pytest.mark.parametrize("index", ["photos.index", "photos.h5"])
def test_options_do_what_those_of_the_library_do(client, folder, index):
    name = "photos/cat/photo_0002.jpg"
    body = {"id": item_of(client, name)["id"]}
    stored = f"id:{name}"
    address = f"/v1/search?index={index}"
    whole = expected(folder / index, stored, 22)
    assert found_by(client.post(f"{address}&k=22", json=body)) == whole
    for query, options in (
        ("&k=5&exclude_self=true", {"exclude_self": True}),
        ("&k=5&filter=label=dog", {"filters": ["label=dog"]}),
        ("&k=5&filter=label=cat&filter=width<300", {"filters": ["label=cat", "width<300"]}),
        (f"&k=5&min_score={whole[3][1]:.3f}", {"threshold": float(f"{whole[3][1]:.3f}")}),
    ):
        found = found_by(client.post(address + query, json=body))
        assert found == expected(folder / index, stored, 5, **options), query


def test_a_page_is_a_part_of_the_whole(client):
    body = {"id": item_of(client, "photo_0002.jpg")["id"]}
    whole = found_by(client.post("/v1/search?k=22", json=body))
    pages = [
        found_by(client.post(f"/v1/search?k=8&offset={start}", json=body)) for start in (0, 8, 16)
    ]
    assert [one for page in pages for one in page] == whole


def test_the_total_is_what_there_is(client):
    body = {"id": item_of(client, "photo_0002.jpg")["id"]}
    totals = {
        "": 22,
        "&filter=label=dog": 9,
        "&min_score=2": 0,
    }
    for query, total in totals.items():
        response = client.post(f"/v1/search?k=3{query}", json=body).json()
        assert response["total"] == total


def test_a_token_repeats_a_query_with_other_options(client, folder):
    path = folder / "photos/dog/photo_0001.jpg"
    first = upload(client, path, "?k=3").json()
    body = {"query_token": first["query_token"]}
    found = found_by(client.post("/v1/search?k=4&filter=label=cat", json=body))
    assert found == expected(folder / "photos.index", path, 4, filters=["label=cat"])
    assert client.post("/v1/search", json={"query_token": "forgotten"}).status_code == 404


def test_vectors_are_queries(client, folder):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 16)).astype(np.float32)
    one = client.post("/v1/search?k=4", json={"vectors": vectors[:1].tolist()})
    assert found_by(one) == expected(folder / "photos.index", vectors[0], 4)
    several = client.post("/v1/search?k=4", json={"vectors": vectors.tolist()}).json()["queries"]
    for vector, found in zip(vectors, several, strict=True):
        names = [(one["item"]["name"], one["score"]) for one in found["results"]]
        assert names == expected(folder / "photos.index", vector, 4)


@pytest.mark.parametrize(
    "vectors", [[[1.0] * 15], [[1.0] * 16, [1.0] * 15], [[1e39] * 16], [[]], [["a"]]]
)
def test_vectors_that_are_none_are_refused(client, vectors):
    assert client.post("/v1/search", json={"vectors": vectors}).status_code == 400


def test_a_class_finds_its_own_images_first(client):
    found = client.post("/v1/search?k=9", json={"class": "dog"}).json()
    labels = [one["item"]["label"] for one in found["results"]]
    assert labels.count("dog") > labels.count("cat")
    assert found["command"] == ""
    assert client.post("/v1/search", json={"class": "cow"}).status_code == 404


def test_the_command_gives_the_same_results(client, folder):
    body = {"id": item_of(client, "photo_0002.jpg")["id"]}
    query = "?k=3&offset=2&filter=label=cat&min_score=0.1&exclude_self=1"
    response = client.post(f"/v1/search{query}", json=body)
    words = split(response.json()["command"])
    assert words[:2] == ["embedkit", "search"]
    assert "-k" in words
    found = embedkit.search(
        words[2], words[3], int(words[5]), filters=[words[7]], threshold=float(words[9]),
        exclude_self="--exclude-self" in words,
    )  # fmt: skip
    assert list(found.neighbors.ids[0][2:]) == [name for name, _ in found_by(response)]


def test_images_that_cant_be_decoded_are_refused_with_the_reason(client):
    whole = encode(Image.new("RGB", (64, 64)), "JPEG")
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\0\0" * 2 + b"\x08\2\0\0\0"
    for data, reason in (
        (b"no image", "not an image"),
        (whole[:300], ""),
        (header, ""),
        (b"GIF89a", ""),
    ):
        response = client.post("/v1/search", content=data, headers={"Content-Type": "image/jpeg"})
        assert response.status_code == 422
        assert reason in response.json()["error"]
    empty = client.post("/v1/search", content=b"", headers={"Content-Type": "image/png"})
    assert empty.status_code == 400


def test_a_broken_image_doesnt_harm_those_of_its_batch(client, folder):
    good = sorted((folder / "photos").rglob("*.jpg"))[:6]

    def search(path):
        if path is None:
            return client.post("/v1/search", content=b"x", headers={"Content-Type": "image/png"})
        return upload(client, path, "?k=1")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(search, [good[0], None, *good[1:], None]))
    assert [one.status_code for one in answers] == [200, 422, *[200] * 5, 422]


def test_a_pixel_bomb_is_refused_by_its_header(client):
    # 60,000 x 60,000 pixels of one colour: half a megabyte that would be ten gigabytes.
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(20_000_000), 9)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )
    response = client.post("/v1/search", content=bomb, headers={"Content-Type": "image/png"})
    assert response.status_code == 422
    assert "pixels" in response.json()["error"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("?k=0", 400), ("?k=10001", 400), ("?k=x", 400), ("?k=1&k=2", 400), ("?offset=-1", 400),
        ("?k=9000&offset=9000", 400), ("?min_score=nan", 400), ("?filter=nonsense", 400),
        ("?filter=nocolumn=3", 400), ("?filter=width>dog", 400), ("?filter=selection:none", 400),
        ("?index=other", 404), ("?exclude_self=maybe", 400),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused_with_a_line(client, address, status):
    body = {"id": item_of(client, "photo_0002.jpg")["id"]}
    response = client.post(f"/v1/search{address}", json=body)
    assert response.status_code == status
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    ['{"id": 3}', "{}", "[]", "null", '{"id": "a", "class": "b"}', '{"other": 1}', "{", "NaN",
     '{"vectors": [[NaN]]}', '{"vectors": []}', "[" * 100_000],
)  # fmt: skip
def test_wrong_bodies_are_refused(client, body):
    response = client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_other_media_types_are_refused(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", ""):
        response = client.post("/v1/search", content=b"x", headers={"Content-Type": kind})
        assert response.status_code == 415


def test_a_form_without_an_image_is_refused(client):
    assert client.post("/v1/search", files={"other": b"x"}).status_code == 400
    broken = client.post(
        "/v1/search", content=b"--x\r\nnothing", headers={"Content-Type": "multipart/form-data"}
    )
    assert broken.status_code == 400


def test_embeddings_are_those_of_the_store(client, folder):
    path = folder / "photos/cat/photo_0001.jpg"
    response = client.post("/v1/embed", files={"image": path.read_bytes()}).json()
    with embedkit.EmbeddingStore.open(folder / "photos.h5") as store:
        stored = store.get("photos/cat/photo_0001.jpg")
    assert np.array_equal(np.array(response["embeddings"][0], stored.dtype), stored)
    assert response["dim"] == 16


@pytest.mark.parametrize("index", ["photos.index", "photos.h5"])
def test_copies_of_an_image_are_found_as_by_the_library(client, folder, index):
    path = folder / "photos/cat/copy_1.jpg"
    address = f"/v1/duplicates/check?index={index}"
    for _ in range(2):  # the second time with what the first has read
        found = client.post(address, files={"image": path.read_bytes()}).json()["matches"]
        known = embedkit.check_duplicates(folder / index, path, verify=True).matches
        assert [(one["item"]["name"], one["score"]) for one in found] == [
            (match.id, match.score) for match in known
        ]
        assert {one["item"]["name"] for one in found} == {
            "photos/cat/copy_1.jpg", "photos/cat/photo_0001.jpg"
        }  # fmt: skip
        assert all(one["copy"] for one in found)


def test_paths_are_shown_only_if_asked_for(folder):
    path = folder / "photos/cat/photo_0002.jpg"
    with serving(folder / "photos.index") as client:
        found = upload(client, path, "?k=3").json()
        assert found["results"][0]["item"]["name"] == "photo_0002.jpg"
        key = found["results"][0]["item"]["id"]
        texts = [
            client.get(f"/v1/items/{key}").text,
            client.post("/v1/search", json={"id": key}).text,
            client.get("/v1/items?filter=nocolumn=1").text,
            client.get("/v1/items?filter=selection:none").text,
            client.get("/v1/columns").text,
            client.get("/v1/info").text,
        ]
        for text in texts:
            assert "photos/" not in text
            assert str(folder) not in text
        assert client.get("/v1/items?filter=path=*cat*").status_code == 400
        assert client.get("/v1/items?sort=path").status_code == 400
