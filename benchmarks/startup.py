"""How long does a command take from a cold process, and what is the floor under it?

    python benchmarks/startup.py
    python benchmarks/startup.py --image photo.jpg --runs 9

Every command in fresh processes of its own, all in turn and over again; the medians, and the ratio
to a Python that does nothing and to the import of torch and timm. The first extraction builds,
converts and remembers the network; those after it are what is measured. resnet50 has its weights
from a file that is written before. At the end, after how many pixels importing torch pays for
scaling images (docs/decisions.md).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

PASS, TORCH, TORCH_TIMM = "python -c pass", "import torch", "import torch, timm"
WRITE_WEIGHTS = """
import sys, torch
from embedkit.backbones import load_backbone
torch.save(load_backbone("resnet50_swsl", weights="random").classifier.state_dict(), sys.argv[1])
"""
MODES = ((341, 256), "bilinear"), ((32, 32), "bicubic")  # a photo's input and its thumbnail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a JPEG; noise of 500 x 375 if none is given")
    parser.add_argument("--runs", type=int, default=7, help="fresh processes a command")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EMBEDKIT_CACHE"] = str(folder / "cache")
        image = args.image.resolve() if args.image else draw(folder / "image.jpg")
        commands = prepare(folder, image)
        seconds = {what: [] for what in commands}
        for _ in range(args.runs):
            for what, command in commands.items():
                seconds[what].append(timed(command, folder))
        print_table({what: float(np.median(times)) for what, times in seconds.items()})
        print_break_even(np.array(Image.open(image).convert("RGB")), seconds)


def prepare(folder: Path, image: Path) -> dict[str, list[str]]:
    """The commands to time; each extraction is run once, so that its network is remembered."""
    weights, store = folder / "resnet50.pth", folder / "out.h5"
    subprocess.run([sys.executable, "-c", WRITE_WEIGHTS, weights], check=True)
    extract = cli("extract", image, "-o", store, "--overwrite", "-b")
    extractions = {
        "extract, efficientnet_lite0": [*extract, "efficientnet_lite0"],
        "extract, resnet50 from a file": [*extract, "resnet50_swsl", "--weights", str(weights)],
    }
    for what, command in extractions.items():
        print(f"{what}: {timed(command, folder):.2f} s the first time")
    return {
        PASS: [sys.executable, "-c", "pass"],
        TORCH: [sys.executable, "-c", TORCH],
        TORCH_TIMM: [sys.executable, "-c", TORCH_TIMM],
        "--help": cli("--help"),
        "models": cli("models"),
        "info": cli("info", store),
        **extractions,
    }


def cli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "embedkit_cli", *map(str, arguments)]


def timed(command: list[str], folder: Path) -> float:
    """Wall time of one process, seconds."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def print_table(medians: dict[str, float]) -> None:
    print(f"\n{'':32}{'median s':>9}{'x pass':>9}{'x torch, timm':>15}")
    for what, median in medians.items():
        floor, libraries = median / medians[PASS], median / medians[TORCH_TIMM]
        print(f"{what:32}{median:9.2f}{floor:9.1f}{libraries:15.2f}")


def print_break_even(pixels: np.ndarray, seconds: dict[str, list[float]]) -> None:
    """How many pixels NumPy may scale before importing torch would have been quicker."""
    import torch

    from embedkit.decode.resize import scale_in_numpy, scale_in_torch

    torch.set_num_threads(1)
    rates = [rate(partial(scale_image, way), pixels) for way in (scale_in_numpy, scale_in_torch)]
    imported = float(np.median(seconds[TORCH])) - float(np.median(seconds[PASS]))
    print(
        f"\nscaling a photo and its thumbnail: NumPy {1e3 * rates[0]:.1f}, torch "
        f"{1e3 * rates[1]:.1f} ms a million pixels ({rates[0] / rates[1]:.1f} x); importing torch "
        f"pays after {imported / (rates[0] - rates[1]):.0f} million pixels on one core"
    )


def scale_image(scale: Callable[..., np.ndarray], pixels: np.ndarray) -> None:
    for size, mode in MODES:
        scale(pixels, size, mode)


def rate(work: Callable[[np.ndarray], None], pixels: np.ndarray, rounds: int = 20) -> float:
    """Seconds a million pixels that go in, the median of ``rounds``."""
    work(pixels)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work(pixels)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) / (pixels.shape[0] * pixels.shape[1] / 1e6)


def draw(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=90)
    return path


if __name__ == "__main__":
    main()
