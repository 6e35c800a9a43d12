"""Photos with all that the search service shows, and ``embedkit serve`` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from images import draw_photo, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CLASSES", "GROUPS", "HOSTILE_NAME", "Site", "build_site", "run_cli", "serving"]

CLASSES = ("cat", "dog", "teapot")
GROUPS = 20  # near-duplicate groups: the first has three images, the others two
HOSTILE_NAME = "<img src=x onerror=document.title='run'>.jpg"


@dataclass(frozen=True)
class Site:
    """What is served.

    Attributes:
        folder: Holds the others.
        images: Folder with one folder per class.
        store: The store.
        index: The index.
        dups: Folder of ``dedup find``.
        address: Where it is served; empty if it isn't yet.
    """

    folder: Path
    images: Path
    store: Path
    index: Path
    dups: Path
    address: str = ""

    def at(self, address: str) -> Site:
        return replace(self, address=address)


def build_site(folder: Path, photos: int = 60) -> Site:
    """60 drawn photos of three classes, and copies of the first 20 of them, the first twice."""
    images = folder / "images"
    for number in range(photos):
        data = encode(draw_photo(number), "JPEG")
        kind = images / CLASSES[number % len(CLASSES)]
        kind.mkdir(parents=True, exist_ok=True)
        name = HOSTILE_NAME if number == 0 else f"photo_{number:04}.jpg"
        (kind / name).write_bytes(data)
        if number < GROUPS:
            (kind / f"copy_{number:04}.jpg").write_bytes(data)
        if number == 0:
            (kind / "second_0000.jpg").write_bytes(data)
    site = Site(folder, images, folder / "photos.h5", folder / "photos.index", folder / "dups")
    run_cli("extract", images, "-o", site.store, "-b", "tiny")
    run_cli("cluster", site.store, "-k", 3, "--write")
    run_cli("index", "build", site.store, "-o", site.index)
    run_cli("dedup", "find", site.store, "-o", site.dups, "--threshold", 0.99)
    return site


def run_cli(*args: object) -> str:
    """What a command prints; it must succeed."""
    command = [sys.executable, "-m", "embedkit", *map(str, args)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def serving(*args: object) -> Iterator[str]:
    """Runs ``embedkit serve`` at a free port, and gives its address."""
    command = [sys.executable, "-m", "embedkit", "serve", *map(str, args), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            yield _address(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://[\w.:\[\]]+", line):
            return found[0]
    raise AssertionError(f"the server did not start: {''.join(lines)}")
