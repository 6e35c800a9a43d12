"""An update of a store beside an extraction from scratch: time, bytes written, equal rows.

    python benchmarks/update.py --images 20000
    python benchmarks/update.py --images 2000 --backbone tiny --kills 50

Draws small photos, extracts them, adds 1%, changes 0.5% and removes 0.5%; one in 500 is damaged and
fails each time. Then the store is updated, and a new one is extracted from scratch, each in a
process of its own, and all rows are compared. So for one file and for a folder of shards. With
``--kills`` updates are killed at random moments; each must leave the store of before or that of
after.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from support.machine import print_facts
from support.tables import print_table

from embedkit.store import EmbeddingStore

ADDED, CHANGED, REMOVED = 0.01, 0.005, 0.005


class Run(NamedTuple):
    """What one command took."""

    seconds: float
    cpu: float  # seconds of all cores together, which other work on the machine moves less
    written: int  # bytes that went to the disk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--side", type=int, default=256, help="of the photos, pixels")
    parser.add_argument("--shard-rows", type=int, default=1024)
    parser.add_argument("--stores", default="file,folder", help="kinds of stores to update")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        photos = Path("photos")
        draw(photos, range(args.images), args.side)
        extract = ["extract", "photos", "-b", args.backbone]
        sharded = ["--sharded", "--shard-rows", str(args.shard_rows)]
        kinds = args.stores.split(",")
        for kind in kinds:
            run([*extract, "-o", f"{kind}.h5", *(sharded if kind == "folder" else [])])
            copy(Path(f"{kind}.h5"), Path(f"kept-{kind}.h5"))
        change(photos, args.images, args.side)
        scratch = run([*extract, "-o", "scratch.h5"])
        rows = [line("from scratch", scratch, scratch, "")]
        for path in (f"{kind}.h5" for kind in kinds):
            found = run(["extract", "photos", "-o", path, "--update"])
            rows.append(line(f"update, {path}", found, scratch, same(Path(path))))
            idle = run(["extract", "photos", "-o", path, "--update"])
            rows.append(line("the same again, unchanged", idle, scratch, same(Path(path))))
        heads = ["", "seconds", "of scratch", "CPU s", "of scratch", "MB written"]
        print_table([*heads, "rows and failures"], rows)
        if args.kills:
            kept = [Path(f"kept-{kind}.h5") for kind in kinds]
            print(kill_updates(kept, args.kills, random.Random(args.seed)))


def line(what: str, found: Run, scratch: Run, is_same: str) -> list[str]:
    shares = (f"{found.seconds / scratch.seconds:.1%}", f"{found.cpu / scratch.cpu:.1%}")
    times = [f"{found.seconds:.1f}", shares[0], f"{found.cpu:.1f}", shares[1]]
    return [what, *times, f"{found.written / 1e6:.1f}", is_same]


def run(arguments: list[str], kill_after: float | None = None) -> Run:
    """Runs the command line in a process of its own; may kill it."""
    before, began, cpu = children_wrote(), time.monotonic(), children_computed()
    command = [sys.executable, "-m", "embedkit", "-q", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            error = process.communicate(timeout=kill_after)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    seconds = time.monotonic() - began
    if process.returncode not in {0, 3, -9}:  # 3: some images failed
        raise SystemExit(error)
    return Run(seconds, children_computed() - cpu, children_wrote() - before)


def children_computed() -> float:
    """Seconds of CPU time of the ended children."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def children_wrote() -> int:
    """Bytes that this process and its ended children have written to the disk's cache."""
    for text in Path("/proc/self/io").read_text().splitlines():
        if text.startswith("write_bytes:"):
            return int(text.split()[1])
    return 0


def draw(folder: Path, numbers: range, side: int, seed: int = 0) -> None:
    """Photos with some structure, 100 to a folder; every 500th is damaged."""
    for number in numbers:
        path = folder / f"{number // 100:05d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 500 == 77:
            path.write_bytes(b"damaged")
            continue
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (8, 8, 3), np.uint8)
        photo = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        photo.save(path, quality=85)


def change(folder: Path, count: int, side: int) -> None:
    """Adds, changes and removes images, spread over all of them."""
    added = round(count * ADDED)
    draw(folder, range(count, count + added), side)
    paths = sorted(folder.glob("*/*.jpg"))
    for path in paths[10 :: round(1 / REMOVED)]:
        path.unlink()
    for path in paths[110 :: round(1 / CHANGED)]:
        draw(folder, range(int(path.stem), int(path.stem) + 1), side, seed=1)


def same(path: Path) -> str:
    """Whether a store has the rows and failures of the one from scratch, bit for bit."""
    return "identical" if state(path) == state(Path("scratch.h5")) else "DIFFERENT"


def state(path: Path) -> tuple[object, ...]:
    with EmbeddingStore.open(path) as store:
        facts = {name: store.images(name).tobytes() for name in store.columns if name != "format"}
        formats = store.images("format").tolist()
        return (list(store.ids), store.to_numpy().tobytes(), facts, formats,
                list(store.failures()), store.labels)  # fmt: skip


def copy(source: Path, target: Path) -> None:
    for one in (target, target.with_name(target.name + ".partial")):
        shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def kill_updates(stores: list[Path], kills: int, chooser: random.Random) -> str:
    """Kills updates at random moments, and looks at each store that is left."""
    old, new = [state(path) for path in stores], state(Path("scratch.h5"))
    path = Path("killed.h5")
    found = {"old": 0, "new": 0, "BROKEN": 0}
    copy(stores[0], path)
    seconds = run(["extract", "photos", "-o", str(path), "--update"]).seconds
    for number in range(kills):
        which = number % len(stores)
        copy(stores[which], path)
        run(["extract", "photos", "-o", str(path), "--update"], chooser.uniform(0, 1.1 * seconds))
        now = state(path)
        found["old" if now == old[which] else "new" if now == new else "BROKEN"] += 1
    return f"{kills} updates killed at random moments: {found}"


if __name__ == "__main__":
    main()
