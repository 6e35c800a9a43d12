"""How fast is the page of `embedkit serve` in a browser?

    python benchmarks/serve_page.py --rows 100000

Makes a store of `--rows` images (links to a few drawn photos), serves it, and drives Chromium on
this machine, without a graphics card. Prints the time to the first picture, frames per second while
10,000 results are scrolled through (the mean, and the slowest second), how long a decision of the
review takes until the next group is there, and how long the map takes.
"""

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from support.machine import print_facts
from support.photos import repeat
from support.tables import print_table
from support.vectors import write_store

from embedkit.dedup.groups.grouping import group_pairs
from embedkit.dedup.output.folder import write_duplicates
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.dedup.results import Duplicates, FoundImages, StoreName
from embedkit.store import EmbeddingStore
from embedkit.types import ImageFacts

PHOTOS = 200  # different ones
PAUSE = 200  # milliseconds between two decisions; 500 in ten minutes are one in 1,200
FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
NO_WEBGL = ("--disable-gpu",)  # what Chromium does by itself without a graphics card
SLOW_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # for the map
FIRST_PICTURE = """document.addEventListener('load', (event) => {
  if (event.target.tagName === 'IMG') window.firstPicture ??= performance.now();
}, true);"""
SCROLL = """async (speed) => {
  const box = document.querySelector('.grid-scroll');
  const times = [];
  let before = await new Promise(requestAnimationFrame);
  const end = before + 5000;
  while (before < end) {
    const now = await new Promise(requestAnimationFrame);
    box.scrollTop += (speed * (now - before)) / 1000;
    times.push(now - before);
    before = now;
  }
  return times;
}"""
PAN = """async () => {
  const canvas = document.querySelector('.map-frame canvas:not(.layer)');
  const times = [];
  let before = await new Promise(requestAnimationFrame);
  for (let k = 0; k < 60; k++) {
    const key = ['ArrowLeft', 'ArrowRight'][k % 2];
    canvas.dispatchEvent(new KeyboardEvent('keydown', { key }));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--groups", type=int, default=3000, help="near-duplicate groups")
    parser.add_argument("--decisions", type=int, default=200, help="groups that are decided")
    parser.add_argument("--images", type=Path, help="folder of photos, in place of drawn ones")
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = args.images or draw_photos(folder / "photos")
        images = repeat(photos, args.rows, folder / "images")
        store = write_store(folder / "photos.h5", args.rows, args.dim, images_below(images))
        dups = write_groups(folder / "dups", store, args.groups)
        with serving(store, dups) as address:
            with chromium(*NO_WEBGL) as browser:
                rows = [*search_figures(browser, address)]
                rows += review_figures(browser, address, args.decisions)
            with chromium(*SLOW_WEBGL) as browser:
                rows += map_figures(browser, address)
        print(f"\n{args.rows:,} images, {args.groups:,} near-duplicate groups")
        print_table(("", "median", "worst"), rows)


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        browser.close()


def images_below(folder: Path) -> list[tuple[str, ImageFacts]]:
    """Path and facts of each link."""
    known = {}
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_symlink()):
        source = path.resolve()
        if source not in known:
            data = source.read_bytes()
            size = Image.open(source).size
            known[source] = (*size, len(data), "JPEG", hashlib.sha256(data).digest())
        found.append((str(path), ImageFacts(*known[source], len(found))))
    return found


def draw_photos(folder: Path) -> Path:
    """Photos of two megapixels."""
    folder.mkdir()
    for seed in range(PHOTOS):
        small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
        picture = Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC)
        picture.save(folder / f"{seed:03}.jpg", quality=90)
    return folder


def write_groups(folder: Path, store: Path, groups: int) -> Path:
    """A folder of near-duplicates: pairs of rows that stand beside each other."""
    with EmbeddingStore.open(store) as opened:
        ids, fingerprint = tuple(opened.ids[: 2 * groups]), opened.fingerprint
    count = len(ids)
    first = np.arange(0, count, 2)
    score = np.linspace(0.6, 0.99, len(first), dtype=np.float32)
    pairs = Pairs(
        first, first + 1, score, score, np.full(len(first), 3, np.uint8),
        np.zeros(len(first), bool), np.ones(len(first), np.int8), PairsInfo(0.5, rows=count),
        ({},) * len(first),
    )  # fmt: skip
    images = FoundImages(
        ids, ("",) * count, ("JPEG",) * count, np.full(count, 1600, np.int32),
        np.full(count, 1200, np.int32), np.full(count, 200_000, np.int64),
        np.arange(32 * count, dtype=np.int64).astype(np.uint8).reshape(count, 32),
        np.ones(count, np.int32),
    )  # fmt: skip
    found = Duplicates(
        pairs, group_pairs(pairs, "single"), images, "single",
        StoreName(str(store), fingerprint, count), None, None, {},
    )  # fmt: skip
    return write_duplicates(found, folder, report=False)


@contextmanager
def serving(store: Path, dups: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "embedkit", "serve", store, "--dups", dups, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            lines = iter(process.stdout)
            found = (re.search(r"http://[\w.:]+", line) for line in lines)
            yield next(one[0] for one in found if one)
        finally:
            process.terminate()


def search_figures(browser: Browser, address: str) -> Iterator[tuple[str, str, str]]:
    times = []
    for _ in range(7):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.add_init_script(FIRST_PICTURE)
        page.goto(address)
        page.wait_for_selector(".tile.has-picture")
        times.append(page.evaluate("window.firstPicture"))
        item = page.evaluate("fetch('/v1/items?limit=1').then((one) => one.json())")["items"][0]
        page.close()
    yield "first picture, first visit (ms)", f"{times[0]:.0f}", ""
    yield "first picture, later visits (ms)", *middle_and_worst(times[1:])
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/?q=id:{item['id']}")
    page.wait_for_selector(".tile.has-picture")
    for speed in (1_000, 5_000, 30_000):
        page.evaluate("() => (document.querySelector('.grid-scroll').scrollTop = 0)")
        page.wait_for_timeout(500)
        name = f"scrolling 10,000 results at {speed:,} pixels/s (frames/s)"
        yield frames(name, page.evaluate(SCROLL, speed))
    page.close()


def middle_and_worst(times: list[float]) -> tuple[str, str]:
    return f"{statistics.median(times):.0f}", f"{max(times):.0f}"


def frames(name: str, times: list[float]) -> tuple[str, str, str]:
    """Frames per second: of all, and of the slowest whole second."""
    seconds, slowest, at = 0.0, float("inf"), 0
    for end, time in enumerate(times, 1):
        seconds += time
        while seconds - times[at] >= 1000:
            seconds -= times[at]
            at += 1
        if seconds >= 1000:
            slowest = min(slowest, 1000 * (end - at) / seconds)
    return name, f"{1000 * len(times) / sum(times):.0f}", f"{slowest:.0f}" if slowest < 1e9 else ""


def review_figures(
    browser: Browser, address: str, decisions: int
) -> Iterator[tuple[str, str, str]]:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/?tab=review")
    wait_for_group(page, 1)
    times = []
    for _ in range(decisions):
        times.append(page.evaluate(DECIDE))
        page.wait_for_timeout(PAUSE)
    yield f"review: key to next group, of {decisions:,} (ms)", *middle_and_worst(times)
    page.close()


DECIDE = """async () => {
  const title = document.querySelector('.stage h2');
  const [text, begun] = [title.textContent, performance.now()];
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'a', bubbles: true }));
  while (title.textContent === text) await new Promise(requestAnimationFrame);
  const images = [...document.querySelectorAll('.member img')];
  await Promise.all(images.map((image) => image.decode()));
  return performance.now() - begun;
}"""


def wait_for_group(page: Page, number: int) -> None:
    page.wait_for_function(
        "(start) => document.querySelector('.stage h2')?.textContent.startsWith(start)",
        arg=f"Group {number} of ",
    )


def map_figures(browser: Browser, address: str) -> Iterator[tuple[str, str, str]]:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/?tab=map")
    page.wait_for_selector(".map-frame canvas.layer", timeout=600_000)  # computed once
    page.close()
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/?tab=map")
    page.wait_for_selector(".map-frame canvas.layer", timeout=60_000)
    yield "map, when it has been computed (ms)", f"{page.evaluate('performance.now()'):.0f}", ""
    yield frames("moving the map, without a graphics card (frames/s)", page.evaluate(PAN))
    page.close()


if __name__ == "__main__":
    main()
