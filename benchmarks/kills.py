"""An extraction that is killed again and again writes the same bytes as one that isn't.

    python benchmarks/kills.py --kills 50

Runs the command line over a folder of photos, once without a disturbance, then with a SIGKILL at a
random moment of each run, until it has been killed so often and then comes to its end.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=Path, help="a folder; the default is made up")
    parser.add_argument("--count", type=int, default=10_000, help="images to make up")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--shard-rows", type=int, default=64)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = args.images or _make_photos(folder / "photos", args.count)
        command = [sys.executable, "-m", "embedkit_cli", "-q", "extract", str(images)]
        command += ["--backbone", args.backbone, "--engine", args.engine]
        command += ["--shard-rows", str(args.shard_rows)]
        if args.backbone == "tiny":
            command += ["--weights", "random"]
        whole, broken = folder / "whole.h5", folder / "broken.h5"
        seconds = _run(command, whole)
        kills, runs = _run_with_kills(command, broken, args.kills, random.Random(args.seed))
        same = _digest(whole) == _digest(broken)
        print(f"uninterrupted run  {seconds:8.1f} s")
        print(f"kills              {kills:8}")
        print(f"runs               {runs:8}")
        print(f"bytes              {whole.stat().st_size:8,}")
        print(f"identical          {'yes' if same else 'NO':>8}")
        sys.exit(0 if same else 1)


def _run(command: list[str], output: Path) -> float:
    began = time.monotonic()
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
    if done.returncode not in {0, 3}:  # 3: some images failed
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def _run_with_kills(
    command: list[str], output: Path, kills: int, chooser: random.Random
) -> tuple[int, int]:
    """Kills each run, mostly while it embeds; gives how often it was killed and started."""
    killed = runs = 0
    while not output.exists():
        runs += 1
        with subprocess.Popen(
            [*command, "-o", str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            if killed < kills:
                if chooser.random() < 0.2:  # while it starts
                    time.sleep(chooser.uniform(0, 5))
                else:
                    _wait_for_commit(process, output.with_name(output.name + ".partial"))
                    time.sleep(chooser.expovariate(30))
                process.kill()
            error = process.communicate()[1].decode(errors="replace")
        if process.returncode == -9:
            killed += 1
        elif process.returncode not in {0, 3}:
            raise SystemExit(error)
    return killed, runs


def _wait_for_commit(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits until the run has saved a shard, or is at its end."""
    before = set(folder.glob("*.h5"))
    while process.poll() is None and set(folder.glob("*.h5")) <= before:
        time.sleep(0.002)


def _make_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        photo = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number:06d}.jpg")
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
