"""What Ray costs on one machine: the plain run, the same on Ray, and a script of Ray Data.

    python benchmarks/ray_overhead.py [--count 20000] [--backbone timm:NAME] [--no-peer]

Draws small images, and embeds them three times, each time in a process of its own that may use so
many cores: ``embedkit extract``, the same with ``--ray local``, and ``peers/ray_data_features.py``,
which does as Ray Data's documentation does. All have random weights of one network. Printed are the
seconds of the whole command, Ray's start included, the processor time of all its processes, which
other programs on the machine change less, images/s, and the ratios to the plain run. That the two
stores are equal to the byte is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from support.machine import print_facts, usable_cores
from support.tables import print_table

_PEER = Path(__file__).parent / "peers" / "ray_data_features.py"
_SIDE = 160  # pixels
_SUBREAPER = 36  # Linux: PR_SET_CHILD_SUBREAPER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--backbone", default="timm:mobilenetv3_small_050")
    parser.add_argument("--cores", type=int, default=usable_cores())
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    print_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = _draw(folder / "images", args.count)
        print(f"{args.count:,} JPEGs of {_SIDE} x {_SIDE}, {args.backbone}, {args.cores} cores")
        runs = {
            "embedkit": _embedkit(images, folder / "plain", args.backbone),
            "embedkit --ray local": _embedkit(
                images, folder / "ray", args.backbone, "--ray", "local"
            ),
        }
        if args.peer:
            network = args.backbone.removeprefix("timm:")
            runs["Ray Data"] = _timed([_PEER, images, folder / "peer", network, args.cores])
        same = _content(folder / "plain") == _content(folder / "ray")
    plain = runs["embedkit"]
    rows = [
        (
            name, f"{one.wall:.0f}", f"{one.cpu:.0f}", f"{args.count / one.wall:.0f}",
            f"{one.wall / plain.wall:.2f}", f"{one.cpu / plain.cpu:.2f}",
        )
        for name, one in runs.items()
    ]  # fmt: skip
    print_table(("", "s", "CPU s", "images/s", "s / plain", "CPU s / plain"), rows)
    print(f"the stores of the two runs of embedkit are {'equal' if same else 'NOT EQUAL'}")


def _draw(folder: Path, count: int) -> Path:
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw_one, [folder] * count, range(count), chunksize=500))
    return folder


def _draw_one(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    picture.save(folder / f"{number:06d}.jpg", quality=90)


def _content(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@dataclass(frozen=True)
class Run:
    """Seconds of a command, and processor seconds of all its processes."""

    wall: float
    cpu: float


def _embedkit(images: Path, output: Path, backbone: str, *options: str) -> Run:
    command = ["-m", "embedkit", "extract", images, "-o", output, "--sharded", "--json"]
    command += ["-b", backbone, "--weights", "random", "--shard-rows", 1024, *options]
    return _timed(command)


def _timed(command: list[object]) -> Run:
    """Runs Python; what the command leaves running becomes this process's child, and is counted."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    before, began = _cpu(), time.perf_counter()
    subprocess.run(
        [sys.executable, *map(str, command)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wall = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return Run(wall, _cpu() - before)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
