"""How near is extraction to the machine's limit, and how far ahead of the peers?

    python benchmarks/extract.py --images photos/ --count 2000

On the same files, in one run, for each backbone: the decode rate d and the compute rate c of all
cores, the limit 1 / (1/d + 1/c) that an overlapping pipeline on a CPU can reach, embedkit, and the
peers, each in its own process. Rates are images/s of the loop alone, without loading libraries and
models. Backbones whose weights aren't on this machine run on random ones: speed only.

Peers: timm with a DataLoader as in timm's documentation; the same tuned (channels_last, the best
of several batch sizes and precisions); imagededup's CNN encoder with the same network.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

PEERS = Path(__file__).parent / "peers"


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        images = repeat(args.images, args.count, Path(folder) / "images")
        print(f"{args.count} files from {args.images}, {len(os.sched_getaffinity(0))} cores")
        for backbone in args.backbones.split(","):
            print_table(backbone, measure(backbone, images, args))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--backbones", default="efficientnet_lite0,resnet18_swsl,resnet50_swsl")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2, help="each figure is the best of these")
    parser.add_argument("--peer-count", type=int, default=480, help="slow peers embed this many")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part](args.backbones, args.images, args.device)))
        sys.exit()
    return args


def repeat(images: Path, count: int, folder: Path) -> Path:
    """A folder of ``count`` links to the images, over and over."""
    folder.mkdir()
    files = sorted(path for path in images.rglob("*") if path.is_file())
    for number in range(count):
        source = files[number % len(files)]
        (folder / f"{number:06d}{source.suffix}").symlink_to(source.resolve())
    return folder


def measure(backbone: str, images: Path, args: argparse.Namespace) -> dict[str, float]:
    """Every rate, the best of some rounds; the rounds go through all parts in turn."""
    rates: dict[str, float] = {}
    few = subset(images, args.peer_count)
    own = [("decode", images), ("compute", images), ("embedkit", images)]
    peers = [(name, few) for name in ("timm", "timm tuned", "imagededup")]
    for _ in range(args.rounds):
        for name, folder in own + peers:
            rate = run_part(name, backbone, folder, args.device)
            if rate:
                rates[name] = max(rate, rates.get(name, 0.0))
    return rates


def subset(images: Path, count: int) -> Path:
    folder = images.with_name(f"{images.name}-{count}")
    if not folder.exists():
        folder.mkdir()
        for link in sorted(images.iterdir())[:count]:
            (folder / link.name).symlink_to(link.resolve())
    return folder


def run_part(name: str, backbone: str, images: Path, device: str) -> float | None:
    """One measurement in a process of its own; None if the peer isn't installed."""
    script = [str(Path(__file__)), "--part", name]
    if name.startswith("timm"):
        script = [str(PEERS / "timm_features.py"), *(["--tuned"] if "tuned" in name else [])]
    elif name == "imagededup":
        script = [str(PEERS / "imagededup_cnn.py")]
    options = ["--images", str(images), "--backbones", backbone, "--device", device]
    done = subprocess.run(
        [sys.executable, *script, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"  {name}: not measured: {(done.stderr.strip().splitlines() or ['?'])[-1][:120]}")
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_table(backbone: str, rates: dict[str, float]) -> None:
    limit = 1 / (1 / rates["decode"] + 1 / rates["compute"])
    print(f"\n{backbone}\n  {'decode only, d':28}{rates['decode']:9.1f} images/s")
    print(f"  {'engine only, c':28}{rates['compute']:9.1f}")
    print(f"  {'limit, 1 / (1/d + 1/c)':28}{limit:9.1f}")
    mine = rates["embedkit"]
    print(f"  {'embedkit':28}{mine:9.1f}   {mine / limit:.2f} of the limit")
    for name in ("timm", "timm tuned", "imagededup"):
        if name in rates:
            print(f"  {name:28}{rates[name]:9.1f}   embedkit is {mine / rates[name]:.1f} x")


def in_threads(function: Callable[[object], object], items: Sequence[object]) -> float:
    """Items a second, over as many threads as cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(function, items[:8]))  # warm
        began = time.perf_counter()
        list(pool.map(function, items))
        return len(items) / (time.perf_counter() - began)


def decode_rate(backbone: str, images: Path, device: str) -> float:
    """Read, decode, scale, crop: nothing else of what the pipeline does."""
    del device
    import torch

    from embedkit.backbones import find_spec
    from embedkit.decode import DecodePolicy, decode_image, fast

    torch.set_num_threads(1)
    preprocessing, policy = find_spec(backbone).preprocessing(), DecodePolicy()

    def decode(path: object) -> object:
        data = Path(str(path)).read_bytes()
        pixels = fast.decode_jpeg(data, str(path), policy)
        if pixels is None:
            return preprocessing.apply(decode_image(data, str(path), policy).image)
        return fast.scale_and_crop(pixels, preprocessing)

    return in_threads(decode, sorted(images.iterdir()))


def compute_rate(backbone: str, images: Path, device: str) -> float:
    """The engine alone, on batches that lie ready."""
    from embedkit.engines import open_engine

    with open_engine(load(backbone), device=device) as engine:
        shape = (engine.batch_size, engine.input_size, engine.input_size, 3)
        batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        batches = [batch] * max(8, len(list(images.iterdir())) // engine.batch_size // 2)
        return engine.batch_size * in_threads(engine.embed, batches)  # type: ignore[arg-type]


def embedkit_rate(backbone: str, images: Path, device: str) -> float:
    """The whole of ``embedkit.extract``'s loop, store and all."""
    import embedkit

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "photos.h5"
        loaded = load(backbone)
        return embedkit.extract(images, output, backbone=loaded, device=device).images_per_second


def load(name: str) -> object:
    from embedkit.backbones import find_spec, load_backbone, weights_on_disk

    return load_backbone(name, weights="auto" if weights_on_disk(find_spec(name)) else "random")


PARTS = {"decode": decode_rate, "compute": compute_rate, "embedkit": embedkit_rate}

if __name__ == "__main__":
    main()
