"""A service over a small collection, in this process or in one of its own."""

import shutil
from contextlib import contextmanager

import pytest
from images import draw_photo, encode, write_photos
from starlette.testclient import TestClient

import embedkit
from embedkit.server.app import make_app
from embedkit.server.connections import Connections
from embedkit.server.routes.table import ENDPOINTS
from embedkit.server.schema import check_value
from embedkit.server.service import Service
from embedkit.server.settings import ServerSettings

COPIES = 5


def make_collection(folder):
    """``photos/`` of two labels with copies, its store, an index and the near-duplicates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_photos(folder / "photos/cat", 8)
        write_photos(folder / "photos/dog", 8, seed=100)
        for number in range(COPIES):
            small = draw_photo(number).resize((240, 180))
            (folder / f"photos/cat/copy_{number}.jpg").write_bytes(encode(small, "JPEG"))
        shutil.copy("photos/dog/photo_0000.jpg", "photos/dog/same.jpg")
        embedkit.extract("photos", "photos.h5", backbone="tiny")
        embedkit.cluster("photos.h5", 3, write=True)
        embedkit.Index.build("photos.h5", "photos.index")
        found = embedkit.find_duplicates("photos.h5", verify=True)
        embedkit.write_duplicates(found, "dups", report=False)


class CheckedClient(TestClient):
    """A client that holds each JSON answer against the schema of its route."""

    __test__ = False

    def send(self, request, **options):
        response = super().send(request, **options)
        path = request.url.path
        found = next((one for one in ENDPOINTS if is_at(one, request.method, path)), None)
        if found is not None and "json" in response.headers.get("content-type", ""):
            if response.status_code in {200, 201}:
                check_value(found.response, response.json())
            else:
                assert response.json().keys() == {"error"}
                known = {400, 401, 403, 408, 413, 415, 429, 404, *found.statuses}
                assert response.status_code in known
        return response


def is_at(endpoint, method, path):
    mine, given = endpoint.path.split("/"), path.split("/")
    return (
        endpoint.method == method
        and len(mine) == len(given)
        and all(a == b or a.startswith("{") for a, b in zip(mine, given, strict=True))
    )


@contextmanager
def serving(*indexes, base_url="http://localhost:8000", client=("127.0.0.1", 1), **settings):
    """A client of a service in this process; writes are allowed by default."""
    service = Service(ServerSettings(list(indexes), **{"reload_every": 0, **settings}))
    app = make_app(service, Connections(100, service.metrics))
    with CheckedClient(app, base_url=base_url, client=client) as made_client:
        made_client.headers["X-Embedkit"] = "1"
        made_client.service = service
        yield made_client


def upload(client, path, query="", **options):
    """Searches with an image."""
    headers = {"Content-Type": "image/jpeg"}
    return client.post(f"/v1/search{query}", content=path.read_bytes(), headers=headers, **options)


def item_of(client, name):
    """The image whose id ends so; the service shows paths."""
    return client.get("/v1/items", params={"filter": f"path=*{name}"}).json()["items"][0]
