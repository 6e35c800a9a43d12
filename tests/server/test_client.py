"""``embedkit.Client`` against a real service, and against one that is busy or isn't there."""

import http.server
import json
import threading

import pytest
from services import Process

import embedkit
from embedkit import Client, ServiceError

TOKEN = "a token that is long enough"


def test_a_client_gets_what_the_library_gets(folder):
    path = folder / "photos/cat/photo_0002.jpg"
    with Process("photos.index", "photos.h5", "--show-paths", token=TOKEN) as served:
        client = Client(f"http://127.0.0.1:{served.port}/", TOKEN)
        found = client.search(path, 5)
        known = embedkit.search("photos.index", path, 5).neighbors
        assert tuple(one.image.name for one in found) == known.ids[0]
        assert [one.score for one in found] == [float(str(score)) for score in known.scores[0]]
        assert client.search(path.read_bytes(), 5) == found
        assert client.search(found[0].image, 3) == found[:3]
        vector = client.embed([path])
        assert vector.shape == (1, 16)
        again = client.search(vector[0], 3)
        assert [one.image for one in again] == [one.image for one in found[:3]]
        options = {"threshold": 0.5, "exclude_self": True, "filters": ["label=cat", "width<300"]}
        some = client.search(found[0].image, 4, **options)
        known = embedkit.search("photos.index", f"id:{found[0].image.name}", 4, **options)
        assert tuple(one.image.name for one in some) == known.neighbors.ids[0]
        assert client.search(path, 2, offset=3) == found[3:]
        assert client.embed([]).shape == (0, 0)
        copies = client.check_duplicates(folder / "photos/cat/copy_1.jpg")
        assert {one.image.name for one in copies} == {
            "photos/cat/copy_1.jpg", "photos/cat/photo_0001.jpg"
        }  # fmt: skip
        assert all(one.is_copy for one in copies)
        items = client.items(["label=dog"], sort="nbytes", descending=True, limit=3)
        assert len(items) == 3
        assert {one.label for one in items} == {"dog"}
        other = Client(f"http://127.0.0.1:{served.port}", TOKEN, index="photos.h5")
        assert [one.image.id for one in other.search(path, 5)] == [one.image.id for one in found]

        with pytest.raises(ServiceError, match="the token is missing or wrong") as caught:
            Client(f"http://127.0.0.1:{served.port}").items()
        assert caught.value.status == 401
        with pytest.raises(ServiceError, match="not an image") as caught:
            client.search(b"no image")
        assert caught.value.status == 422
        with pytest.raises(ServiceError, match="no column cow"):
            client.items(["cow=1"])
        with pytest.raises(FileNotFoundError):
            client.search(folder / "none.jpg")
        gone = served.port
    with pytest.raises(ServiceError, match="can't be asked") as caught:
        Client(f"http://127.0.0.1:{gone}").items()
    assert caught.value.status is None


class Busy(http.server.BaseHTTPRequestHandler):
    """Refuses as often as it is told."""

    left = 0
    status = 503

    def do_GET(self):
        cls = type(self)
        cls.left -= 1
        refuses = cls.left >= 0
        body = json.dumps({"error": "busy"} if refuses else {"items": []}).encode()
        self.send_response(cls.status if refuses else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def busy():
    with http.server.HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Client(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(busy, status):
    Busy.left, Busy.status = 3, status
    assert busy.items() == ()
    Busy.left = 4
    with pytest.raises(ServiceError, match="busy") as caught:
        busy.items()
    assert caught.value.status == status


def test_another_refusal_isnt_tried_again(busy):
    Busy.left, Busy.status = 2, 400
    with pytest.raises(ServiceError, match="busy"):
        busy.items()
    assert Busy.left == 1


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "file:///etc/passwd", ""])
def test_addresses_of_no_web_server_are_refused(url):
    with pytest.raises(ValueError, match="write an address"):
        Client(url)
