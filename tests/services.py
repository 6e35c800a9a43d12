"""A service over a small collection, in this process or in one of its own."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

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


class Process:
    """``embedkit serve`` in a process of its own; a context manager.

    Attributes:
        port: Where it listens.
        log: What it wrote to stderr, once it has ended.
    """

    def __init__(self, *arguments, token=None, port=0):
        code = "from embedkit_cli.main import run; run()"
        environment = {**os.environ, **({} if token is None else {"EMBEDKIT_TOKEN": token})}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", *arguments, "--port", str(port), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate(timeout=60)[1])
        self.port = int(json.loads(line)["address"].rpartition(":")[2])
        self.log = ""
        with ExitStack() as stack:
            stack.callback(self.__exit__)
            self.wait_until_ready()
            stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.log += self.process.communicate()[1]

    def get(self, path, **headers):
        """Status and body of a GET."""
        return self.ask("GET", path, None, headers)

    def ask(self, method, path, body=None, headers=None):
        """Status and body of a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_until_ready(self):
        """Returns when the backbone is loaded."""
        for _ in range(600):
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.1)
        raise AssertionError("the service is never ready")

    def stop(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        out, self.log = self.process.communicate(timeout=60)
        assert not out
        return self.process.returncode
