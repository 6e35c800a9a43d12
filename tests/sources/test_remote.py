from __future__ import annotations

import io
import tarfile
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract import check_source

from embedkit.errors import DecodeError, MissingExtraError, SourceError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.io import remote
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {"p/a.jpg": b"a" * 300, "p/ant/b.jpg": b"b", "p/ant/empty.jpg": b"", "p/ant/c d.png": b"c"}


def make_files() -> dict[str, bytes]:
    """Make one file of each kind, by relative name."""
    tar, gz, zipped, table = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    for stream, mode in ((tar, "w"), (gz, "w:gz")):
        with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
            for i in range(4):
                info = tarfile.TarInfo(f"{i}.jpg")
                info.size = 1000 * i
                archive.addfile(info, io.BytesIO(b"%d" % i * info.size))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.jpg", b"m" * 500)
    pq.write_table(pa.table({"image": pa.array([b"x", b"y"], pa.binary())}), table)
    archives = {"t-0.tar": tar, "t-1.tar": tar, "g.tgz": gz, "z.zip": zipped, "t.parquet": table}
    lists = {"list.txt": b"p/a.jpg\nz.zip\np/ant/\n"}
    return {**FILES, **lists, **{name: stream.getvalue() for name, stream in archives.items()}}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, with ranges or without, and fails when told to."""

    ranges: ClassVar[bool] = True
    failures: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if self.failures:
            status = self.failures.pop()
            if status:
                self.send_error(status)
            else:
                self.close_connection = True
            return
        wanted = self.headers.get("Range", "")
        path = Path(self.translate_path(self.path))
        if not (self.ranges and wanted and path.is_file()):
            super().do_GET()
            return
        start, _, last = wanted.removeprefix("bytes=").partition("-")
        data = path.read_bytes()
        part = data[int(start) : int(last) + 1]
        if not part:
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    for name, data in make_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    Handler.ranges, Handler.failures, Handler.asked = True, [], []

    def handler(*args: Any) -> Handler:
        return Handler(*args, directory=str(tmp_path))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["memory", "file", "http", "http without ranges"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A URL below which the files lie."""
    if request.param.startswith("http"):
        url = request.getfixturevalue("served")
        Handler.ranges = request.param == "http"
        yield url
        return
    url = f"file://{tmp_path}" if request.param == "file" else "memory://bucket"
    storage = fsspec.filesystem(request.param)
    for name, data in make_files().items():
        storage.pipe_file(f"{url}/{name}", data) if request.param == "memory" else None
        if request.param == "file":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    yield url
    if request.param == "memory":
        storage.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_DELAYS", (0.0, 0.0))


def test_folders(base: str) -> None:
    # A server's index page has its links escaped.
    space = "%20" if base.startswith("http") else " "
    names = {
        "a.jpg": FILES["p/a.jpg"],
        "ant/b.jpg": b"b",
        f"ant/c{space}d.png": b"c",
        "ant/empty.jpg": b"",
    }
    records = check_source(
        open_source(f"{base}/p/"), {f"{base}/p/{n}": data for n, data in names.items()}
    )
    assert [record.label for record in records] == [None, "ant", "ant", "ant"]


def test_single_files(base: str) -> None:
    check_source(open_source(f"{base}/p/a.jpg"), {f"{base}/p/a.jpg": b"a" * 300})


@pytest.mark.parametrize("name", ["t-0.tar", "g.tgz"])
def test_tars(base: str, name: str) -> None:
    url = f"{base}/{name}"
    check_source(open_source(url), {f"{url}#{i}.jpg": b"%d" % i * 1000 * i for i in range(4)})


def test_zips_and_parquet(base: str) -> None:
    check_source(open_source(f"{base}/z.zip"), {f"{base}/z.zip#m.jpg": b"m" * 500})
    url = f"{base}/t.parquet"
    check_source(open_source(url), {f"{url}#0": b"x", f"{url}#1": b"y"})


def test_lists(base: str) -> None:
    records = list(open_source(f"{base}/list.txt", list_folders=True).scan())
    assert [record.id.removeprefix(base) for record in records][:3] == [
        "/p/a.jpg",
        "/z.zip#m.jpg",
        "/p/ant/b.jpg",
    ]
    record = list(open_source(f"{base}/list.txt").scan())[2]
    assert record.id == f"{base}/p/ant/"
    assert str(record.problem).startswith("a folder: ")


def test_patterns(base: str) -> None:
    urls = [f"{base}/p/a.jpg", f"{base}/p/ant/b.jpg", f"{base}/p/ant/empty.jpg"]
    assert [record.id for record in open_source(f"{base}/p/**/*.jpg").scan()] == urls
    tars = [f"{base}/t-{i}.tar#{k}.jpg" for i in range(2) for k in range(4)]
    for pattern in ("t-{0..1}.tar", "t-*.tar"):
        assert [record.id for record in open_source(f"{base}/{pattern}").scan()] == tars
    with pytest.raises(SourceError, match=r"t-2\.tar: no such file or folder"):
        open_source(f"{base}/t-{{0..2}}.tar")


def test_what_is_missing(base: str) -> None:
    for name in ("gone.jpg", "gone.tar", "gone/"):
        with pytest.raises(SourceError, match="no such file or folder"):
            open_source(f"{base}/{name}")
    with ImageReader() as reader, pytest.raises(DecodeError, match="no such file or folder"):
        reader.read(ImageRecord(f"{base}/gone.jpg", f"{base}/gone.jpg"))


def test_limits(base: str) -> None:
    url = f"{base}/p/a.jpg"
    with ImageReader(max_bytes=299) as reader, pytest.raises(DecodeError, match="over the limit"):
        reader.read(ImageRecord(url, url))
    with ImageReader(max_bytes=300) as reader:
        assert len(reader.read(ImageRecord(url, url))) == 300


def read(url: str) -> bytes:
    with ImageReader() as reader:
        return reader.read(ImageRecord(url, url))


@pytest.mark.parametrize("failures", [[503], [500, 503], [0, 0], [429]])
def test_passing_trouble_is_tried_again(served: str, failures: list[int]) -> None:
    Handler.failures = failures
    assert read(f"{served}/p/a.jpg") == b"a" * 300


@pytest.mark.parametrize("status", [503, 0])
def test_lasting_trouble_is_told_after_three_tries(served: str, status: int) -> None:
    Handler.failures = [status] * 9
    with pytest.raises(DecodeError) as caught:
        read(f"{served}/p/a.jpg")
    assert "503" in caught.value.reason or "isconnected" in caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize("status", [403, 404])
def test_refusals_are_not_tried_again(served: str, status: int) -> None:
    Handler.failures = [status]
    with pytest.raises(DecodeError, match=r"no such file|the server answered 403"):
        read(f"{served}/p/a.jpg")
    assert len(Handler.asked) == 1


class Stalling(SimpleHTTPRequestHandler):
    """Accepts a request and says nothing, or stops in the middle, or goes on by single bytes."""

    end: ClassVar[threading.Event] = threading.Event()

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if "silent" not in self.path:
            self.send_response(206)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
        while "drip" in self.path and not self.end.wait(0.05):
            self.wfile.write(b"x")
        self.end.wait(60)


@pytest.mark.parametrize("kind", ["silent", "stopping", "drip"])
def test_a_server_that_stalls_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDKIT_HTTP_TIMEOUT", "0.4")
    Stalling.end.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    start = time.monotonic()
    try:
        with pytest.raises(DecodeError, match=r"no answer.*EMBEDKIT_HTTP_TIMEOUT is 0\.4 s"):
            read(f"http://127.0.0.1:{server.server_port}/{kind}.jpg")
    finally:
        Stalling.end.set()
        server.shutdown()
        server.server_close()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_is_a_number(served: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDKIT_HTTP_TIMEOUT", text)
    with pytest.raises(SourceError, match=r"EMBEDKIT_HTTP_TIMEOUT=.* is no number of seconds"):
        open_source(f"{served}/p/a.jpg")


def test_no_server_at_all() -> None:
    with pytest.raises(SourceError, match=r"^http://127.0.0.1:1/a.jpg: "):
        open_source("http://127.0.0.1:1/a.jpg")
    record = ImageRecord("http://127.0.0.1:1/a.jpg", "http://127.0.0.1:1/a.jpg")
    with ImageReader() as reader, pytest.raises(DecodeError, match=r"127\.0\.0\.1"):
        reader.read(record)


def test_web_addresses_with_questions(served: str) -> None:
    url = f"{served}/p/a.jpg?size=big"
    check_source(open_source(url), {url: b"a" * 300})


def test_large_skips_are_refused_without_ranges(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Handler.ranges = False
    monkeypatch.setattr(remote, "_MAX_SKIP", 100)
    records = list(open_source(f"{served}/t-0.tar").scan())
    with ImageReader() as reader, pytest.raises(DecodeError, match="download this file first"):
        reader.read(records[2])


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("https", "http")])
def test_missing_backends(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **options: Any) -> None:
        raise ImportError("not installed")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(MissingExtraError, match=rf"pip install 'embedkit\[{extra}\]'"):
        open_source(f"{scheme}://bucket/a.jpg")
    with pytest.raises(SourceError, match="not installed"):
        open_source("ftp://example.org/a.jpg")


def test_a_folder_that_fails_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = fsspec.filesystem("memory")
    for name in ("a/1.jpg", "b/2.jpg"):
        storage.pipe_file(f"/trouble/{name}", b"x")
    listed = type(storage).ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("/a"):
            raise PermissionError(13, "denied")
        return listed(self, path, **options)

    monkeypatch.setattr(type(storage), "ls", ls)
    records = check_source(
        open_source("memory://trouble"), ["memory://trouble/a", "memory://trouble/b/2.jpg"]
    )
    assert records[0].problem == "folder can't be listed: denied"
    monkeypatch.undo()
    storage.rm("/trouble", recursive=True)
