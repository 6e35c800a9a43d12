"""Peak memory of an extraction doesn't grow with the number of images.

    python benchmarks/memory.py --images 20000 --images 200000

Embeds tar archives of tiny images with a backbone of three convolutions, each size in a process of
its own, and prints the peaks and their ratio.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_POOL = 500
_SHARD = 10_000  # images a tar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, action="append", help="twice or more")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--shard-rows", type=int, default=16384)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _extract(*args.child, args.engine, args.shard_rows)
        return
    sizes = args.images or [20_000, 200_000]
    peaks = [_peak_of(size, args.engine, args.shard_rows) for size in sizes]
    print(f"{'images':>10}  {'peak MiB':>9}  {'ratio':>6}")
    for size, peak in zip(sizes, peaks, strict=True):
        print(f"{size:>10,}  {peak:>9.1f}  {peak / peaks[0]:>6.3f}")


def _peak_of(size: int, engine: str, shard_rows: int) -> float:
    """Peak resident memory of a process that embeds so many images, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        _write_tars(Path(folder), size)
        pattern = f"{folder}/*.tar"
        command = [sys.executable, __file__, "--engine", engine, "--shard-rows", str(shard_rows)]
        command += ["--child", pattern, f"{folder}/out.h5"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(done.stderr, end="", file=sys.stderr)
        return float(done.stdout.split()[-1])


def _write_tars(folder: Path, size: int) -> None:
    pool = [_encoded(seed) for seed in range(_POOL)]
    for first in range(0, size, _SHARD):
        with tarfile.open(folder / f"{first // _SHARD:05d}.tar", "w") as tar:
            for number in range(first, min(first + _SHARD, size)):
                info = tarfile.TarInfo(f"{number:09d}.jpg")
                info.size = len(pool[number % _POOL])
                tar.addfile(info, io.BytesIO(pool[number % _POOL]))


def _encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def _extract(pattern: str, output: str, engine: str, shard_rows: int) -> None:
    from embedkit.backbones import load_backbone
    from embedkit.extraction.extract import extract

    backbone = load_backbone("tiny", weights="random")
    result = extract(
        pattern, output, backbone=backbone, engine=engine, workers=2, shard_rows=shard_rows
    )
    print(f"{result.embedded:,} images, {result.images_per_second:.0f}/s", file=sys.stderr)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
