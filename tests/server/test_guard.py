"""What the service refuses: other hosts, other sites, missing tokens, too much, too often."""

import pytest
from services import item_of, serving, upload
from starlette.testclient import TestClient

from embedkit.server.failure import RequestError
from embedkit.server.limits import RateLimit
from embedkit.server.settings import ServerSettings

TOKEN = "correct horse battery staple"
READS = (
    "/v1/indexes", "/v1/columns", "/v1/items", "/v1/items/0123456789abcdef", "/v1/review",
    "/v1/review/groups", "/v1/map", "/v1/map/points", "/v1/clusters", "/v1/quality",
    "/v1/quality/dark", "/v1/outliers", "/v1/labels/doubts", "/v1/selections",
    "/v1/selections/mine", "/thumb/0123456789abcdef", "/image/0123456789abcdef", "/metrics",
    "/openapi.json",
)  # fmt: skip
WRITES = (
    ("POST", "/v1/review/actions", {"action": "undo"}),
    ("POST", "/v1/review/plan", {}),
    ("POST", "/v1/selections", {"name": "mine", "filter": ["label=cat"]}),
    ("POST", "/v1/session", {"token": TOKEN}),
    ("DELETE", "/v1/selections/mine", None),
    ("DELETE", "/v1/session", None),
)


@pytest.fixture
def locked(folder):
    """A client without the token of a service that needs one."""
    with serving(folder / "photos.index", dups=folder / "dups", token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("path", READS)
def test_nothing_is_told_without_the_token(locked, path):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
                    {"Cookie": "embedkit_session=wrong"}):  # fmt: skip
        response = locked.get(path, headers=headers)
        assert response.status_code == 401
        assert response.json() == {"error": "the token is missing or wrong"}
    assert locked.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code != 401


def test_searches_and_writes_need_the_token(locked, folder):
    for path in ("/v1/search", "/v1/embed", "/v1/duplicates/check"):
        assert locked.post(path, files={"image": b"x"}).status_code == 401
    for method, path, body in WRITES:
        if path != "/v1/session":
            assert locked.request(method, path, json=body).status_code == 401
    assert not (folder / "photos.h5.selections").exists()


def test_the_page_and_the_probes_need_no_token(locked):
    for path in ("/", "/healthz"):
        assert locked.get(path).status_code == 200
    found = locked.get("/v1/info").json()
    assert (found["needs_token"], found["signed_in"], found["indexes"]) == (True, False, [])
    assert not any(found["tabs"].values())


def test_signing_in_opens_a_session_until_one_signs_out(locked):
    assert locked.post("/v1/session", json={"token": "wrong"}).status_code == 401
    response = locked.post("/v1/session", json={"token": TOKEN})
    cookie = response.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age"))
    assert TOKEN not in cookie
    assert locked.get("/v1/items").status_code == 200
    assert locked.get("/v1/info").json()["signed_in"] is True
    kept = dict(locked.cookies)
    assert locked.delete("/v1/session").status_code == 200
    locked.cookies.update(kept)
    assert locked.get("/v1/items").status_code == 401


def test_without_a_token_everything_is_open(client):
    assert client.get("/v1/info").json()["needs_token"] is False
    assert client.post("/v1/session", json={"token": "any"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True), ("localhost:8000", True), ("LOCALHOST:8000", True),
        ("127.0.0.1:1", True), ("[::1]:8000", True), ("localhost.", True),
        ("photos.lan", True), ("photos.lan:80", True),
        ("evil.com", False), ("localhost.evil.com", False), ("evil.com:8000", False), ("", False),
        ("127.0.0.1.evil.com", False), ("localhost@evil.com", False), ("localhost:8000/x", False),
        ("localhost,evil.com", False), ("0.0.0.0:8000", False), ("localhost:80:80", False),
    ],
)  # fmt: skip
def test_only_known_names_of_the_host_are_answered(folder, host, is_known):
    with serving(folder / "photos.h5", allowed_hosts=["Photos.LAN"]) as client:
        for path in ("/", "/healthz", "/v1/items", "/static/index.html", "/nothing"):
            response = client.get(path, headers={"Host": host})
            assert (response.status_code == 400) != is_known
            if not is_known:
                assert "Host" in response.json()["error"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Embedkit": ""},
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_writes_that_another_site_causes_are_refused(client, folder, method, path, body, headers):
    response = client.request(method, path, json=body, headers=headers)
    assert response.status_code == 403
    assert not (folder / "photos.h5.selections").exists()


def test_writes_of_the_own_page_are_allowed(client):
    own = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    body = {"name": "mine", "filter": ["label=cat"]}
    assert client.post("/v1/selections", json=body, headers=own).status_code == 201


def test_a_form_cant_write(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = client.post(
            "/v1/review/actions", content='{"action":"undo"}', headers={"Content-Type": kind}
        )
        assert response.status_code == 415


def test_reads_and_searches_of_another_site_are_refused(client, folder):
    key = item_of(client, "photo_0001.jpg")["id"]
    other = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.com"}
    for path in (f"/thumb/{key}", f"/image/{key}", "/v1/items", "/v1/info"):
        assert client.get(path, headers=other).status_code == 403
    path = folder / "photos/cat/photo_0001.jpg"
    for headers in ({"Origin": "http://evil.com"}, {"Sec-Fetch-Site": "cross-site"}):
        response = client.post("/v1/search", files={"image": path.read_bytes()}, headers=headers)
        assert response.status_code == 403
    assert client.get("/", headers=other).status_code == 200  # a link to the page


def test_no_answer_lets_other_sites_read(client):
    for method in ("GET", "OPTIONS", "POST"):
        response = client.request(
            method, "/v1/items",
            headers={"Origin": "http://localhost:8000", "Access-Control-Request-Method": "POST"},
        )  # fmt: skip
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/v1/items", "/nothing", "/openapi.json", "/static/x.js"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
        "/static/%2e%2e%2f%2e%2e%2f__init__.py", "/static/..\\app.py", "/static/%00",
        "/image/..%2f..%2fphotos%2fcat%2fphoto_0000.jpg", "/image/photos/cat/photo_0000.jpg",
        "/thumb/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/image//etc/passwd", "/thumb/../../etc/passwd",
        "/v1/selections/..%2f..%2fphotos.h5", "/v1/selections/%2e%2e", "/v1/items/..%2f..",
        "/v1/quality/..%2f..%2fetc", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_what_is_served(folder, path):
    with serving(folder / "photos.h5") as client:
        for method in ("GET", "DELETE"):
            response = client.request(method, path)
            assert response.status_code in {400, 404, 405}
            assert str(folder) not in response.text
            assert "root:" not in response.text
        assert (folder / "photos.h5").exists()


def test_files_that_a_browser_might_run_are_sent_as_images(folder, monkeypatch):
    """An image whose name and bytes are also a page's stays an image."""
    from images import draw_photo

    import embedkit

    photo = folder / "photos/cat/<img src=x onerror=alert(1)>.jpg"
    draw_photo(50).save(photo, "JPEG", comment=b"<script>alert(1)</script>")
    embedkit.extract("photos", "photos.h5", backbone="tiny", overwrite=True)
    with serving(folder / "photos.h5", show_paths=True) as client:
        item = item_of(client, "onerror=alert(1)>.jpg")
        response = client.get(f"/image/{item['id']}")
        assert response.headers["content-type"] == "image/jpeg"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert b"<script>" in response.content


def test_bodies_that_are_too_large_are_refused(folder):
    with serving(folder / "photos.h5", max_upload=5000) as client:
        big = {"image": b"x" * 6000}
        assert client.post("/v1/search", files=big).status_code == 413

        def in_parts():
            for _ in range(100):
                yield b"x" * 1000

        headers = {"Content-Type": "image/jpeg"}
        assert client.post("/v1/search", content=in_parts(), headers=headers).status_code == 413
        body = {"name": "mine", "filter": ["x" * 6000]}
        assert client.post("/v1/selections", json=body).status_code == 413
        lying = client.get("/v1/items", headers={"Content-Length": "-1"})
        assert lying.status_code == 400


def test_a_client_elsewhere_may_not_ask_too_often(folder):
    path = folder / "photos/cat/photo_0001.jpg"
    settings = {"rate": 2.0, "token": TOKEN}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with serving(folder / "photos.h5", client=("192.0.2.1", 7), **settings) as client:
        client.headers.update(headers)
        statuses = [upload(client, path).status_code for _ in range(8)]
        assert statuses[0] == 200
        assert 429 in statuses
        refused = upload(client, path)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/v1/items").status_code == 200  # which costs little
    with serving(folder / "photos.h5", client=("127.0.0.1", 7), **settings) as client:
        client.headers.update(headers)
        assert {upload(client, path).status_code for _ in range(8)} == {200}


def test_guessing_the_token_is_slowed_down(folder):
    with serving(folder / "photos.h5", client=("192.0.2.1", 7), rate=2.0, token=TOKEN) as client:
        statuses = [
            client.post("/v1/session", json={"token": f"guess {n}"}).status_code for n in range(9)
        ]
        assert 429 in statuses
        statuses = [
            client.get("/v1/items", headers={"Authorization": f"Bearer {n}"}).status_code
            for n in range(9)
        ]
        assert 429 in statuses


def test_the_rate_recovers(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    limit = RateLimit(2.0)

    def allowed(address="192.0.2.1"):
        try:
            limit.take(address)
        except RequestError:
            return False
        return True

    assert [allowed() for _ in range(6)] == [True] * 4 + [False] * 2
    assert allowed("192.0.2.2")
    now[0] = 0.6
    assert [allowed() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [allowed() for _ in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": "0.0.0.0"}, "token"), ({"host": "::"}, "token"), ({"host": ""}, "token"),
        ({"host": "192.168.1.5"}, "token"), ({"token": "short"}, "16 characters"),
        ({"indexes": []}, "nothing to serve"), ({"queue": 0}, "queue"), ({"port": 65536}, "port"),
        ({"rate": -1.0}, "rate"), ({"max_upload": 0}, "max_upload"),
    ],
)  # fmt: skip
def test_unsafe_settings_are_refused(folder, settings, reason):
    with pytest.raises(ValueError, match=reason):
        ServerSettings(**{"indexes": [folder / "photos.h5"], **settings})


def test_the_token_isnt_printed(folder):
    settings = ServerSettings([folder / "photos.h5"], host="0.0.0.0", token=TOKEN)
    assert TOKEN not in repr(settings)


def test_an_unexpected_error_tells_nothing(client, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("embedkit.server.routes.items.describe_column", fail)
    quiet = TestClient(client.app, base_url="http://localhost:8000", raise_server_exceptions=False)
    response = quiet.get("/v1/columns")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
