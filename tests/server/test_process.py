"""The command in a process of its own: signals, reload, slow and many connections."""

import json
import resource
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest
from services import Process

import embedkit


@pytest.fixture
def served(folder):
    with Process("photos.index", "photos.h5", "--reload", "0.2") as process:
        yield process


def search(process, folder, name="photos/cat/photo_0003.jpg", query="?k=3"):
    body = (folder / name).read_bytes()
    status, answer = process.ask("POST", f"/v1/search{query}", body, {"Content-Type": "image/jpeg"})
    return status, json.loads(answer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_after_running_requests(served, folder, number):
    results = []

    def ask():
        results.append(search(served, folder)[0])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert served.stop(number) == 0
    for thread in threads:
        thread.join(60)
    # those that were let in are answered, and nothing failed inside
    assert 200 in results
    assert {*results} <= {200, 503}
    assert served.log.strip() == "stopped"


def test_a_changed_index_is_served_without_a_pause(served, folder):
    stop, statuses = threading.Event(), []

    def ask():
        while not stop.is_set():
            statuses.append(search(served, folder)[0])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        embedkit.Index.remove("photos.index", ["photos/cat/copy_3.jpg"])
        wait_for(served, lambda one: one["generation"] == 2, 0)
        _, found = search(served, folder, query="?k=22")
        assert len(found["results"]) == 21
        embedkit.annotate("photos.h5", write_table(folder))
        wait_for(served, lambda one: one["generation"] == 2, 1)
        status, body = served.get("/v1/items?filter=stars=3&index=photos.h5")
        assert (status, json.loads(body)["total"]) == (200, 1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert {*statuses} == {200}
    assert len(statuses) > 2


def write_table(folder):
    path = folder / "stars.csv"
    path.write_text("id,stars\nphotos/cat/photo_0001.jpg,3\n")
    return path


def wait_for(process, is_so, place):
    for _ in range(200):
        indexes = json.loads(process.get("/v1/indexes")[1])["indexes"]
        if is_so(indexes[place]):
            return
        time.sleep(0.1)
    raise AssertionError(indexes)


def test_an_index_that_cant_be_opened_leaves_the_old_one(served, folder):
    manifest = folder / "photos.index/manifest.json"
    whole = manifest.read_text()
    manifest.write_text("nonsense")
    wait_for(served, lambda one: one["problem"], 0)
    assert search(served, folder)[0] == 200
    assert json.loads(served.get("/v1/indexes")[1])["indexes"][0]["generation"] == 1
    manifest.write_text(whole)
    wait_for(served, lambda one: one["generation"] == 2 and not one["problem"], 0)
    assert search(served, folder)[0] == 200


@pytest.mark.long
def test_a_slow_body_is_cut_off_while_others_are_served(folder):
    with Process("photos.h5") as served, ExitStack() as stack:
        slow, head, idle = (stack.enter_context(connected(served)) for _ in range(3))
        slow.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 100000\r\n\r\nabc"
        )
        head.sendall(b"GET / HTTP/1.1\r\nHos")
        assert search(served, folder)[0] == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert is_closed(head)
        assert is_closed(idle)
        assert search(served, folder)[0] == 200


def connected(process):
    """A connection that waits at most a minute."""
    return socket.create_connection(("127.0.0.1", process.port), timeout=60)


def is_closed(connection):
    """Whether the other end closes a connection without a word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.long
def test_more_connections_than_allowed_dont_lock_others_out(folder):
    with Process("photos.h5", "--max-connections", "50") as served:
        idle = [connected(served) for _ in range(300)]
        assert search(served, folder)[0] == 200
        text = served.get("/metrics")[1].decode()
        (count,) = [line for line in text.splitlines() if line.startswith("embedkit_connections ")]
        assert float(count.split()[1]) <= 50
        for one in idle:
            one.close()
        assert search(served, folder)[0] == 200


def test_a_body_of_a_gigabyte_is_refused_without_reading_it(folder):
    with Process("photos.h5", "--max-upload", "5") as served:
        before = served_bytes(served)
        with connected(served) as sender:
            sender.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: 1000000000\r\n\r\n"
            )
            assert sender.recv(100).startswith(b"HTTP/1.1 413")
        with connected(served) as sender:
            sender.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
            with pytest.raises(OSError, match=r"reset|pipe"):
                for _ in range(1000):
                    sender.sendall(chunk)
        assert search(served, folder)[0] == 200
        assert served_bytes(served) - before < 100 * 2**20


def served_bytes(process):
    text = process.get("/metrics")[1].decode()
    (line,) = [one for one in text.splitlines() if one.startswith("process_resident_memory_bytes ")]
    return float(line.split()[1])


def test_it_refuses_to_listen_elsewhere_without_a_token(folder):
    with pytest.raises(RuntimeError, match="--token"):
        Process("photos.h5", "--host", "0.0.0.0")
    with Process("photos.h5", "--host", "0.0.0.0", token="a token that is long enough") as served:
        assert served.get("/v1/items")[0] == 401
        headers = {"Authorization": "Bearer a token that is long enough"}
        assert served.ask("GET", "/v1/items", None, headers)[0] == 200


def test_the_token_may_stand_in_a_file(folder):
    (folder / "token.txt").write_text("a token that is long enough\n")
    with Process("photos.h5", "--token-file", "token.txt") as served:
        headers = {"Authorization": "Bearer a token that is long enough"}
        assert served.ask("GET", "/v1/items", None, headers)[0] == 200
        assert served.get("/v1/items")[0] == 401


def test_a_port_that_is_taken_is_an_error_of_one_line(folder):
    with Process("photos.h5") as served, pytest.raises(RuntimeError, match="embedkit: error"):
        Process("photos.h5", port=served.port)


def test_a_low_limit_on_open_files_is_raised(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    with ExitStack() as stack:
        try:
            served = stack.enter_context(Process("photos.h5", "--max-connections", "400"))
        finally:  # the limit is the service's, not that of its clients here
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(200):
            stack.enter_context(closing(connected(served)))
        assert search(served, folder)[0] == 200
