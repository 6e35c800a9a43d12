"""What `embedkit serve` does with hostile clients, and whether it still answers the others.

    python benchmarks/abuse.py photos.h5 --connections 5000

Starts a service with a token, and then: opens thousands of connections that say nothing, sends
bodies of a gigabyte with and without a length, hundreds of bodies byte by byte, images that are
none, pictures that unpack to gigabytes, paths that lead elsewhere, other names of the host,
requests without the token, and writes of other sites. After each it asks whether an ordinary
request is answered, and prints the statuses and the memory. A fast part of this is in tests/server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "a-token-for-hostile-clients"
OWN = {"Authorization": f"Bearer {TOKEN}", "Host": "localhost"}


class Target:
    """The service."""

    def __init__(self, index: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedkit", "serve", index, "--port", "0", "--json"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "EMBEDKIT_TOKEN": TOKEN},
        )  # fmt: skip
        self.port = int(json.loads(self.process.stdout.readline())["address"].rpartition(":")[2])
        while self.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.2)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method,
                path,
                body,
                {name.replace("_", "-"): value for name, value in headers.items()},
            )
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def memory(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", help="index or store")
    parser.add_argument("--connections", type=int, default=5000)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(args.index)
    attacks: dict[str, Callable[[Target], Counter]] = {
        f"{args.connections} idle connections": lambda t: idle(t, args.connections),
        "1 GB with a length": lambda t: large(t, with_length=True),
        "1 GB in chunks": lambda t: large(t, with_length=False),
        "200 bodies byte by byte": slow,
        "images that are none": bad_images,
        "pictures that unpack to gigabytes": bombs,
        "paths that lead elsewhere": paths,
        "other names of the host": hosts,
        "no token, or another": tokens,
        "writes of other sites": sites,
    }
    try:
        for name, attack in attacks.items():
            start = time.perf_counter()
            statuses = attack(target)
            status, _ = target.ask("GET", "/v1/items", **OWN)
            print(
                f"{name}: {dict(statuses)}; then an ordinary request: {status}; "
                f"{target.memory()} MiB, {time.perf_counter() - start:.1f} s"
            )
    finally:
        target.process.terminate()
        print("stopped with exit code", target.process.wait(60))


def idle(target: Target, count: int) -> Counter:
    opened = []
    for _ in range(count):
        with suppress(OSError):
            opened.append(target.connect())
    found = Counter({"opened": len(opened)})
    found[f"meanwhile {target.ask('GET', '/v1/items', **OWN)[0]}"] += 1
    for one in opened:
        one.close()
    return found


def large(target: Target, *, with_length: bool) -> Counter:
    length = "Content-Length: 1000000000" if with_length else "Transfer-Encoding: chunked"
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n{length}\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    ).encode()
    block = bytes(2**20) if with_length else b"100000\r\n" + bytes(2**20) + b"\r\n"
    with target.connect() as sender:
        sender.sendall(head)
        for number in range(1000):
            try:
                sender.sendall(block)
            except OSError:
                return Counter({f"cut off after {number} MiB": 1})
        return Counter({sender.recv(12).decode()[9:]: 1})


def slow(target: Target) -> Counter:
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: 100000\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ).encode()
    senders = [target.connect() for _ in range(200)]
    for one in senders:
        one.sendall(head)
    found: Counter = Counter()
    for _ in range(15):
        for one in senders:
            with suppress(OSError):
                one.sendall(b"x")
        found[f"meanwhile {target.ask('GET', '/v1/items', **OWN)[0]}"] += 1
        time.sleep(1)
    for one in senders:
        try:
            found[one.recv(12).decode()[9:] or "closed"] += 1
        except OSError:
            found["closed"] += 1
        one.close()
    return found


def bad_images(target: Target) -> Counter:
    bad = [
        b"x",
        b"\xff\xd8\xff\xe0",
        b"GIF89a" + bytes(99),
        b"<svg onload=alert(1)>",
        os.urandom(9999),
    ]
    return _posted(target, bad)


def bombs(target: Target) -> Counter:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packed = zlib.compress(bytes(50_000_000), 9)
    found = []
    for side in (30_000, 60_000, 2**31 - 1):
        size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        parts = ((b"IHDR", size), (b"IDAT", packed), (b"IEND", b""))
        found.append(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return _posted(target, found)


def _posted(target: Target, images: list[bytes]) -> Counter:
    return Counter(
        target.ask("POST", "/v1/search", one, Content_Type="image/png", **OWN)[0] for one in images
    )


def paths(target: Target) -> Counter:
    tried = (
        "/static/../app.py", "/static/%2e%2e/app.py", "/image/..%2f..%2fetc%2fpasswd",
        "/thumb//etc/passwd", "/v1/selections/..%2f..%2fetc", "/%2e%2e/%2e%2e/etc/passwd",
    )  # fmt: skip
    answers = [target.ask("GET", path, **OWN) for path in tried]
    assert not any(b"root:" in body for _, body in answers)
    return Counter(status for status, _ in answers)


def hosts(target: Target) -> Counter:
    names = ("evil.com", "localhost.evil.com", "localhost@evil.com", "169.254.169.254", "")
    return Counter(target.ask("GET", "/v1/items", **{**OWN, "Host": name})[0] for name in names)


def tokens(target: Target) -> Counter:
    given = ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}")
    return Counter(
        target.ask("GET", "/v1/items", **{**OWN, "Authorization": one})[0] for one in given
    )


def sites(target: Target) -> Counter:
    body = b'{"name": "x", "rows": [0]}'
    more = ({"Origin": "http://evil.com"}, {"Sec_Fetch_Site": "cross-site"}, {})
    return Counter(
        target.ask("POST", "/v1/selections", body, Content_Type="application/json", **OWN, **one)[0]
        for one in more
    )


if __name__ == "__main__":
    main()
