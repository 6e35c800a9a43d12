"""How near is extraction to the machine's limit, and how far ahead of the peers?

    python benchmarks/extract.py --images photos/ --count 2000 [--precisions fp32,bf16] [--compiled]

On the same files, in one run, for each backbone: the decode rate d and the compute rate c of all
cores, the limit, embedkit, and the peers, each in its own process, in turn, the best of some
rounds. The limit of an overlapping pipeline is 1 / (1/d + 1/c) on a CPU, where both share the
cores, and min(d, c) on a GPU. d is reading, decoding, scaling and cropping; hashing, the
perceptual hash and writing the store are embedkit's to hide. c is the best of all engines and
batch sizes that are tried, not of those that embedkit takes; it is also compared with the speed
of the network if it were one product of matrices of 2048 x 2048, by PyTorch on all cores. Rates
are images/s of the loop alone, without loading libraries and models, nor a precision's trial;
files are read once before. The spread is that of the rounds. Memory is the peak of the process;
of those with children, sampled, the peak of all together, pages that they share counted once.

Backbones whose weights aren't on this machine run on random ones: speed only.

Peers: timm with a DataLoader as in timm's documentation; the same tuned (peers/timm_features.py
says how; --compiled: by torch.compile too, where it pays); imagededup's CNN encoder, same network.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from support.machine import print_facts, usable_cores, why_no_bf16
from support.photos import image_files, repeat, warm
from support.tables import print_table
from support.timing import rate, tree_memory

if TYPE_CHECKING:
    from embedkit.backbones import Backbone

PEERS = Path(__file__).parent / "peers"
_SAMPLE_SECONDS = 2.0  # of memory; reading it takes tens of milliseconds
_COMPUTE_SECONDS = 5.0
_ENGINES, _BATCHES = ("openvino", "torch"), (1, 4, 8, 16)  # tried on a CPU
_CUDA_BATCHES = (64, 128, 256, 512)
_MATRIX = 2048


@dataclass
class Figures:
    """What the rounds gave for one part."""

    rates: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    note: str = ""

    @property
    def best(self) -> float:
        return max(self.rates)

    @property
    def spread(self) -> str:
        if len(self.rates) < 2:
            return ""
        return f"{100 * (self.best - min(self.rates)) / self.best:.0f}%"


@dataclass(frozen=True)
class Part:
    """One thing to measure: a part of this script, or a peer's script."""

    name: str
    images: Path
    precision: str = "fp32"

    @property
    def has_children(self) -> bool:
        """Whether a process's own account of its peak memory leaves something out."""
        return self.name not in PARTS

    def command(self, backbone: str, device: str, engine: str) -> list[str]:
        own = ["--engine", engine]
        options = ["--images", str(self.images), "--backbones", backbone, "--device", device]
        if self.name == "imagededup":
            return [str(PEERS / "imagededup_cnn.py"), *options]
        if self.name.startswith("timm"):
            how = [f"--{word}" for word in self.name.split()[1:]]
            return [str(PEERS / "timm_features.py"), *how, *options]
        return [__file__, "--part", self.name, "--precisions", self.precision, *own, *options]


def main() -> None:
    args = parse_arguments()
    if args.part:
        run_part_here(args)
        return
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        images = repeat(args.images, args.count, Path(folder) / "images")
        few = repeat(args.images, args.peer_count, Path(folder) / "few")
        warm(images)
        print(f"{args.count} files from {args.images}, {args.peer_count} for the slow peers")
        parts = list_parts(args, images, few)
        for backbone in args.backbones.split(","):
            figures = measure(parts, backbone, args)
            print(f"\n{backbone}, {args.device}", flush=True)
            show(figures, args.device)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--backbones", default="efficientnet_lite0,resnet18_swsl,resnet50_swsl")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", default="auto", help="of embedkit")
    parser.add_argument("--precisions", default="fp32,bf16", help="of embedkit: fp32,bf16,int8")
    parser.add_argument("--rounds", type=int, default=2, help="each rate is the best of these")
    parser.add_argument(
        "--peer-count", type=int, default=480, help="the slow peers embed this many"
    )
    parser.add_argument("--compiled", action="store_true", help="timm with torch.compile too")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


def list_parts(args: argparse.Namespace, images: Path, few: Path) -> list[Part]:
    """What is measured here, in the order of a round."""
    parts = [Part("decode", images)]
    for precision in args.precisions.split(","):
        reason = why_no_bf16(args.device) if precision == "bf16" else None
        if reason:
            print(f"bf16 is left out: {reason}")
            continue
        parts += [Part(name, images, precision) for name in ("compute", "embedkit")]
        if precision in GEMM_TYPES:
            parts.append(Part("gemm", few, precision))
    peers = [
        "timm",
        "timm tuned",
        *(["timm tuned compiled"] if args.compiled else []),
        "imagededup",
    ]
    return parts + [Part(name, few) for name in peers]


def measure(parts: list[Part], backbone: str, args: argparse.Namespace) -> dict[Part, Figures]:
    """Every part once a round; a part that fails is told and left out of later rounds."""
    figures = {part: Figures() for part in parts}
    for _ in range(args.rounds):
        for part in list(figures):
            if not run_part(part, figures[part], backbone, args):
                del figures[part]
    return figures


def run_part(part: Part, figures: Figures, backbone: str, args: argparse.Namespace) -> bool:
    """One measurement in a process of its own; False if it can't be had here."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, *part.command(backbone, args.device, args.engine)]
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True)
        while not ended(process):
            if part.has_children:
                figures.peak_mib = max(figures.peak_mib, tree_memory(process.pid))
        if process.returncode:
            print(f"{part.name} {part.precision}: not measured: {last_line(err)[:160]}", flush=True)
            return False
        told = json.loads(last_line(out))
    figures.rates.append(told["rate"])
    figures.peak_mib = max(figures.peak_mib, told["peak_mib"])
    figures.note = told.get("note", "")
    return True


def ended(process: subprocess.Popen[str]) -> bool:
    """Whether it ended within a while."""
    try:
        process.wait(_SAMPLE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def last_line(file: IO[str]) -> str:
    file.seek(0)
    return (file.read().strip().splitlines() or ["?"])[-1]


def show(figures: dict[Part, Figures], device: str) -> None:
    """The table; every rate of embedkit is beside the limit, and every peer beside embedkit."""
    found = {(part.name, part.precision): figure for part, figure in figures.items()}
    decode = found["decode", "fp32"]
    rows = [row("decoding only, d", decode, "")]
    mine = {}
    for name, precision in found:
        if name != "embedkit" or ("compute", precision) not in found:
            continue
        compute, own = found["compute", precision], found["embedkit", precision]
        limit, formula = limit_of(decode.best, compute.best, device)
        gemm = found.get(("gemm", precision))
        of_gemm = f", {compute.best / gemm.best:.2f} of the matrix product" if gemm else ""
        rows.append(row(f"{precision}: engine only, c ({compute.note}{of_gemm})", compute, ""))
        rows.append([f"{precision}: limit, {formula}", f"{limit:.1f}", "", "", ""])
        rows.append(row(f"{precision}: embedkit", own, f"{own.best / limit:.2f} of the limit"))
        mine[precision] = own.best
    for (name, _), figure in found.items():
        if name in PARTS:
            continue
        ahead = ", ".join(f"{kind} {best / figure.best:.1f} x" for kind, best in mine.items())
        title = f"{name} ({figure.note})" if figure.note else name
        rows.append(row(title, figure, f"embedkit {ahead}"))
    print_table(["", "images/s", "spread", "peak MiB", "embedkit beside it"], rows)


def row(title: str, figures: Figures, remark: str) -> list[str]:
    return [title, f"{figures.best:.1f}", figures.spread, f"{figures.peak_mib:.0f}", remark]


def limit_of(decode: float, compute: float, device: str) -> tuple[float, str]:
    """The most that an overlapping pipeline can reach, images/s."""
    if device.startswith("cpu"):
        return 1 / (1 / decode + 1 / compute), "1 / (1/d + 1/c)"
    return min(decode, compute), "min(d, c)"


def run_part_here(args: argparse.Namespace) -> None:
    """In a child: measures one part and prints it as JSON."""
    measured, note = PARTS[args.part](args.backbones, args.images, args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": measured, "peak_mib": peak, "note": note}))


def decode_rate(backbone: str, images: Path, args: argparse.Namespace) -> tuple[float, str]:
    """Read, decode, scale, crop, on as many threads as embedkit's: nothing else of what it does."""
    del args
    import torch

    from embedkit.backbones import find_spec
    from embedkit.decode import fast
    from embedkit.decode.exact import decode_image
    from embedkit.decode.policy import DecodePolicy

    torch.set_num_threads(1)
    preprocessing, policy = find_spec(backbone).preprocessing(), DecodePolicy()

    def decode(path: Path) -> object:
        data = path.read_bytes()
        pixels = fast.decode_jpeg(data, str(path), policy)
        if pixels is None:
            return preprocessing.apply(decode_image(data, str(path), policy).image)
        return fast.scale_and_crop(pixels, preprocessing)

    return rate(decode, image_files(images), usable_cores()), ""


def compute_rate(backbone: str, images: Path, args: argparse.Namespace) -> tuple[float, str]:
    """The best engine alone, on batches that lie ready, called as embedkit calls it."""
    loaded = load(backbone)
    pixels = some_pixels(loaded, images, 128)
    cpu = args.device.startswith("cpu")
    engines = _ENGINES if cpu and args.precisions == "fp32" else ("auto",)
    return max(
        (engine_rate(loaded, pixels, engine, batch, args), f"{engine}, batch {batch}")
        for engine in engines
        for batch in (_BATCHES if cpu else _CUDA_BATCHES)
    )


def engine_rate(
    backbone: "Backbone", pixels: np.ndarray, engine: str, batch_size: int, args: argparse.Namespace
) -> float:
    from embedkit.engines import open_engine

    with open_engine(
        backbone,
        engine=engine,
        device=args.device,
        precision=args.precisions,
        batch_size=batch_size,
        calibration=pixels if args.precisions == "int8" else None,
    ) as opened:
        callers = usable_cores() + opened.in_flight
        batch = opened.new_buffer()
        batch[:] = pixels[np.arange(opened.batch_size) % len(pixels)]
        done = rate(opened.embed, [batch] * (4 * callers), callers, seconds=_COMPUTE_SECONDS)
        return opened.batch_size * done


def gemm_rate(backbone: str, images: Path, args: argparse.Namespace) -> tuple[float, str]:
    """Images/s of a network that runs as fast as PyTorch's product of matrices."""
    del images
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    loaded = load(backbone)
    side = loaded.preprocessing.crop
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        loaded.module(torch.zeros(1, 3, side, side))
    kind = getattr(torch, GEMM_TYPES[args.precisions])
    device = torch.device(args.device)
    one, other = (torch.rand(_MATRIX, _MATRIX, device=device).to(kind) for _ in range(2))

    def multiply(_: object) -> None:
        torch.set_num_threads(usable_cores())  # each thread of Python has its own number
        (one @ other)[0, 0].item()  # waits for a GPU

    products = rate(multiply, [None] * 4, 1, seconds=_COMPUTE_SECONDS)
    return products * 2 * _MATRIX**3 / counter.get_total_flops(), ""


def some_pixels(backbone: "Backbone", images: Path, count: int) -> np.ndarray:
    """``(count, S, S, 3)`` pixels of the first images."""
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.resize import scale_in_torch

    load = ImageLoader(DecodePolicy(), backbone.preprocessing, "fast", scale_in_torch)
    files = image_files(images)[:count]
    return np.stack([load(path.read_bytes(), str(path)).pixels for path in files])


def embedkit_rate(backbone: str, images: Path, args: argparse.Namespace) -> tuple[float, str]:
    """The whole of ``embedkit.extract``'s loop, store and all."""
    import embedkit

    with tempfile.TemporaryDirectory() as folder:
        result = embedkit.extract(
            images,
            Path(folder) / "photos.h5",
            backbone=load(backbone),
            engine=args.engine,
            device=args.device,
            precision=args.precisions,
        )
        return result.images_per_second, ""


def load(name: str) -> "Backbone":
    from embedkit.backbones import find_spec, load_backbone, weights_on_disk

    return load_backbone(name, weights="auto" if weights_on_disk(find_spec(name)) else "random")


GEMM_TYPES = {"fp32": "float32", "bf16": "bfloat16"}
PARTS = {
    "decode": decode_rate,
    "compute": compute_rate,
    "embedkit": embedkit_rate,
    "gemm": gemm_rate,
}

if __name__ == "__main__":
    main()
