"""Do the rate and the memory of an extraction stay flat as the work grows?

    python benchmarks/growth.py --images photos/ [--sizes 1000,10000,100000] [--plot growth.svg]

Extracts 1,000, 10,000 and 100,000 images (links to the given ones, over and over), each in a
process of its own. Prints images/s of the loop, of the whole call (listing, planning, opening the
engine and writing the store too), and of the slowest and the median tenth of the loop; and the peak
memory. Rate and memory stand beside their ratio to the first size.

The work is real, photos through the whole pipeline, but for the network: the default is ``tiny``,
since what may grow is listing, planning, reading, collecting and writing, and a large network would
only hide it behind arithmetic. ``--backbone efficientnet_lite0`` takes a real one.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.machine import print_facts
from support.photos import repeat, warm
from support.tables import print_table

_TENTHS = 10


@dataclass(frozen=True)
class Run:
    """One extraction: images/s of the loop, of the call, and of each tenth of the loop."""

    images: int
    loop_rate: float
    call_rate: float
    tenths: list[float]
    peak_mib: float


def main() -> None:
    args = parse_arguments()
    if args.child:
        print(json.dumps(extract_here(args.images, args.backbone, args.device)))
        return
    print_facts()
    print(f"{args.backbone}, {args.device}, photos of {args.images}")
    sizes = [int(size) for size in args.sizes.split(",")]
    run(args, 100)  # fills the cache of converted networks, and isn't counted
    runs = [best_of(args, size) for size in sizes]
    show(runs)
    if args.plot:
        plot(runs, args.plot)
        print(f"\nplot: {args.plot}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--least", type=int, default=3, help="runs of the first size, best taken")
    parser.add_argument("--plot", type=Path, help="an SVG or PNG to draw; needs matplotlib")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def best_of(args: argparse.Namespace, size: int) -> Run:
    """The first size takes seconds, so one run of it says little: the best of some."""
    first = int(args.sizes.split(",")[0])
    times = args.least if size == first else 1
    return max((run(args, size) for _ in range(times)), key=lambda one: one.loop_rate)


def run(args: argparse.Namespace, size: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        images = repeat(args.images, size, Path(folder) / "images")
        warm(args.images)
        command = [sys.executable, __file__, "--child", "--images", str(images)]
        command += ["--backbone", args.backbone, "--device", args.device]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return Run(size, **json.loads(done.stdout.splitlines()[-1]))


def extract_here(images: Path, backbone: str, device: str) -> dict[str, object]:
    """In a child: one extraction, and what it took."""
    import embedkit
    from embedkit.backbones import load_backbone

    loaded = load_backbone(backbone)
    moments: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = embedkit.extract(
            images,
            Path(folder) / "photos.h5",
            backbone=loaded,
            device=device,
            precision="fp32",
            progress=lambda p: moments.append((p.seconds, p.done)) if p.rate else None,
        )
        seconds = time.perf_counter() - began
    return {
        "loop_rate": result.images_per_second,
        "call_rate": result.found / seconds,
        "tenths": rates_of_tenths(moments),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def rates_of_tenths(moments: Sequence[tuple[float, int]]) -> list[float]:
    """Images/s within each tenth of the images, from ``(seconds, images done)`` as they went."""
    seconds, done = np.array([(0.0, 0), *moments]).T
    edges = np.interp(np.linspace(0, done[-1], _TENTHS + 1), done, seconds)
    return (done[-1] / _TENTHS / np.diff(edges)).tolist()


def show(runs: Sequence[Run]) -> None:
    first = runs[0]
    rows = [
        [
            f"{one.images:,}",
            f"{one.loop_rate:.1f}",
            f"{one.loop_rate / first.loop_rate:.2f}",
            f"{one.call_rate:.1f}",
            f"{min(one.tenths):.1f}",
            f"{float(np.median(one.tenths)):.1f}",
            f"{one.peak_mib:.0f}",
            f"{one.peak_mib / first.peak_mib:.2f}",
        ]
        for one in runs
    ]
    header = ["images", "images/s", "ratio", "whole call", "slowest tenth", "median tenth"]
    print_table([*header, "peak MiB", "ratio"], rows)


def plot(runs: Sequence[Run], path: Path) -> None:
    """Rates and memory by size, and the rate along the largest run."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "growth"  # the same figures give the same file
    figure = Figure(figsize=(9, 3), layout="constrained")
    sizes = [one.images for one in runs]
    by_size, memory, along = figure.subplots(1, 3)
    by_size.plot(sizes, [one.loop_rate for one in runs], "o-", label="loop")
    by_size.plot(sizes, [one.call_rate for one in runs], "s--", label="whole call")
    by_size.set(xscale="log", xlabel="images", ylabel="images/s")
    by_size.legend()
    memory.plot(sizes, [one.peak_mib for one in runs], "o-")
    memory.set(xscale="log", xlabel="images", ylabel="peak memory, MiB")
    largest = runs[-1]
    places = (np.arange(_TENTHS) + 0.5) * largest.images / _TENTHS
    along.plot(places, largest.tenths, "o-")
    along.set(xlabel=f"image of {largest.images:,}", ylabel="images/s", xlim=(0, largest.images))
    along.set_xticks(np.linspace(0, largest.images, 3))
    for axes in (by_size, memory, along):
        axes.set_ylim(0, 1.15 * axes.dataLim.ymax)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
