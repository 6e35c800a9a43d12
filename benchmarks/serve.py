"""What `embedkit serve` takes under load, beside the engine itself and a FastAPI + FAISS script.

    python benchmarks/serve.py --images photos/ --backbone efficientnet_lite0 --seconds 60

Embeds the images and builds an index; measures how many images a second the library embeds and
searches in batches, with all cores; then lets 200 clients upload these images to the service, each
the next one as soon as it has its answer, for a minute. Prints errors, requests a second, latency
(p50, p99) and the memory of the service over time. Then the same with the script of
`peers/fastapi_faiss.py`, if fastapi is installed. Clients and services share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from support.machine import print_facts

import embedkit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PEER = Path(__file__).parent / "peers" / "fastapi_faiss.py"
_BOUNDARY = "0123456789abcdef"


@dataclass
class Load:
    """What the clients saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.statuses["200"] / max(self.seconds, 1e-9)

    def print(self, name: str, own: float) -> None:
        errors = self.statuses.total() - self.statuses["200"]
        p50, p99 = np.percentile(self.latencies or [np.nan], [50, 99])
        print(
            f"{name}: {self.rate:.1f} requests/s ({self.rate / own:.0%} of batches), "
            f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, {errors} errors of "
            f"{self.statuses.total()} {dict(self.statuses)}"
        )
        parts = np.array_split(np.array(self.memory), 6)
        means = ", ".join(f"{part.mean() / 2**20:.0f}" for part in parts if len(part))
        print(f"{name}: memory over time, MiB: {means}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--most", type=int, default=500, help="photos, at most")
    args = parser.parse_args()
    print_facts()
    paths = [p for p in sorted(args.images.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg"}]
    images = [path.read_bytes() for path in paths[: args.most]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "photos", images)
        store, index = folder / "photos.h5", folder / "photos.index"
        embedkit.extract(folder / "photos", store, backbone=args.backbone)
        embedkit.Index.build(store, index)
        size = np.mean([len(one) for one in images]) / 1000
        print(f"{len(images)} photos of {size:.0f} kB on average, {args.backbone}")
        own = _own_rate(index, images, args.seconds / 3)
        print(f"batches by embedkit.search: {own:.1f} images/s (before)")
        command = [sys.executable, "-m", "embedkit", "serve", str(index), "--port", "0", "--json"]
        service = _load(command, _embedkit_request, images, args.clients, args.seconds)
        service.print("embedkit serve", own)
        again = _own_rate(index, images, args.seconds / 3)
        print(f"batches by embedkit.search: {again:.1f} images/s (after)")
        if find_spec("fastapi") is None:
            print("FastAPI + FAISS: not measured, fastapi isn't installed")
            return
        command = [sys.executable, str(_PEER), str(store), "--port", "8765"]
        peer = _load(command, _form_request, images, args.clients, args.seconds, port=8765)
        peer.print("FastAPI + FAISS", own)


def _write(folder: Path, images: Sequence[bytes]) -> None:
    folder.mkdir()
    for number, image in enumerate(images):
        (folder / f"{number:05d}.jpg").write_bytes(image)


def _own_rate(index: Path, images: Sequence[bytes], seconds: float) -> float:
    """Images a second that are embedded and searched in batches, decoding included."""
    with embedkit.Index.open(index) as opened:
        embedkit.search(opened, images[:8], 10)
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            embedkit.search(opened, images, 10)
            done += len(images)
        return done / (time.perf_counter() - start)


def _embedkit_request(image: bytes) -> bytes:
    head = (
        "POST /v1/search?k=10 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(image)}\r\n\r\n"
    )
    return head.encode() + image


def _form_request(image: bytes) -> bytes:
    body = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()  # fmt: skip
    head = (
        "POST /search?k=10 HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _load(
    command: Sequence[str],
    request: Callable[[bytes], bytes],
    images: Sequence[bytes],
    clients: int,
    seconds: float,
    port: int = 0,
) -> Load:
    """Starts a service, lets the clients ask it, and stops it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if not port:
            port = int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
        requests = [request(image) for image in images]
        return asyncio.run(_ask_all(port, process.pid, requests, clients, seconds))
    finally:
        process.terminate()
        process.wait(60)


async def _ask_all(
    port: int, pid: int, requests: Sequence[bytes], clients: int, seconds: float
) -> Load:
    await _until_ready(port)
    warm_end = time.perf_counter() + min(10.0, seconds / 3)
    await asyncio.gather(*(_ask(port, requests, n, warm_end, Load()) for n in range(clients)))
    load, start = Load(), time.perf_counter()
    watching = asyncio.create_task(_watch(pid, load))
    tasks = (_ask(port, requests, n, start + seconds, load) for n in range(clients))
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - start
    watching.cancel()
    return load


async def _until_ready(port: int) -> None:
    for _ in range(600):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        except OSError:
            pass  # not yet
        await asyncio.sleep(0.2)
    raise RuntimeError("the service is never ready")


async def _ask(port: int, requests: Sequence[bytes], number: int, end: float, load: Load) -> None:
    """One client: asks, waits for the answer, and asks again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        number = (number * 7 + 13) % len(requests)
        start = time.perf_counter()
        try:
            writer.write(requests[number])
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            load.statuses[head[9:12].decode()] += 1
            load.latencies.append(time.perf_counter() - start)
        except (OSError, asyncio.IncompleteReadError) as exc:
            load.statuses[type(exc).__name__] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def _watch(pid: int, load: Load) -> None:
    while True:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmRSS")]
        load.memory.append(int(line.split()[1]) * 1024)
        await asyncio.sleep(1)


if __name__ == "__main__":
    main()
