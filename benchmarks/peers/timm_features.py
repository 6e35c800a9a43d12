"""timm and a DataLoader, as in timm's documentation; or, with --tuned, as well as it can be done.

Plain: ``create_model(num_classes=0)``, ``create_transform``, DataLoader with a worker a core and
batches of 64, fp32. Tuned: inference mode, channels_last, as many threads as cores, pinned memory
on CUDA; the batch size and fp32 or bf16 autocast are the best by a trial of the network alone,
then, with --compiled, ``torch.compile`` if it is faster there, and then the number of workers by a
trial of the whole. The trials are not part of the rate. Prints rate, peak memory and what was
chosen as JSON.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from embedkit.backbones import find_spec

_CORES = os.cpu_count() or 1
_TRIAL_BATCHES = 3


class Photos(Dataset):
    """Every image of a folder, transformed."""

    def __init__(self, files: list[Path], transform: object) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[number]).convert("RGB"))


@dataclass(frozen=True)
class Setup:
    """How the tuned script runs."""

    model: Callable[[torch.Tensor], torch.Tensor]
    device: str
    batch: int
    dtype: torch.dtype
    workers: int = _CORES
    compiled: bool = False

    def __str__(self) -> str:
        words = [str(self.dtype).removeprefix("torch."), f"batch {self.batch}"]
        return ", ".join([*words, f"{self.workers} workers", *["compiled"] * self.compiled])

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        kind = torch.device(self.device).type
        low = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(kind, self.dtype, enabled=low):
            there = images.to(self.device, non_blocking=True)
            ready = there.contiguous(memory_format=torch.channels_last)
            return self.model(ready).float().cpu()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    model = timm.create_model(find_spec(args.backbones).timm_name, pretrained=False, num_classes=0)
    model = model.eval().to(args.device)
    config = timm.data.resolve_model_data_config(model)
    files = sorted(path for path in args.images.rglob("*") if path.is_file())
    photos = Photos(files, timm.data.create_transform(**config))
    if args.tuned:
        model = model.to(memory_format=torch.channels_last)
        setup = choose(model, photos, args.device, config["input_size"], compiled=args.compiled)
        rate, note = timed(tuned(setup, photos), len(photos)), str(setup)
    else:
        rate, note = timed(plain(model, photos, args.device), len(photos)), ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": rate, "peak_mib": peak, "note": note}))


def plain(model: torch.nn.Module, photos: Photos, device: str) -> Iterator[torch.Tensor]:
    with torch.no_grad():
        for batch in DataLoader(photos, batch_size=64, num_workers=_CORES):
            yield model(batch.to(device)).cpu()


def choose(
    model: torch.nn.Module, photos: Photos, device: str, shape: tuple[int, ...], *, compiled: bool
) -> Setup:
    """The best batch size and precision, then compiled or not, then the number of workers."""
    best, speed = Setup(model, device, 1, torch.float32), 0.0
    sizes = (8, 16, 32, 64) if device == "cpu" else (64, 128, 256, 512)
    for dtype in (torch.float32, torch.bfloat16):
        for size in sizes:
            candidate = Setup(model, device, size, dtype)
            found = compute_rate(candidate, shape)
            if found > speed:
                best, speed = candidate, found
            elif found < speed / 3:  # a precision that this machine emulates
                break
    if compiled:
        candidate = replace(best, model=torch.compile(model), compiled=True)
        if compute_rate(candidate, shape) > speed:
            best = candidate
    trial = Photos(photos.files[: max(128, len(photos) // 10)], photos.transform)
    numbers = sorted({max(1, _CORES // 2), _CORES})
    return max(
        (replace(best, workers=number) for number in numbers),
        key=lambda setup: timed(tuned(setup, trial), len(trial)),
    )


def compute_rate(setup: Setup, shape: tuple[int, ...]) -> float:
    """Images a second of the network alone."""
    images = torch.rand(setup.batch, *shape)
    setup.embed(images)  # warm, and compiled
    began = time.perf_counter()
    for _ in range(_TRIAL_BATCHES):
        setup.embed(images)
    return _TRIAL_BATCHES * setup.batch / (time.perf_counter() - began)


def tuned(setup: Setup, photos: Photos) -> Iterator[torch.Tensor]:
    loader = DataLoader(
        photos,
        batch_size=setup.batch,
        num_workers=setup.workers,
        prefetch_factor=4,
        pin_memory=setup.device != "cpu",
    )
    for batch in loader:
        missing = setup.batch - len(batch) if setup.compiled else 0  # a new shape compiles anew
        full = torch.cat([batch, batch[:1].expand(missing, -1, -1, -1)]) if missing else batch
        yield setup.embed(full)[: len(batch)]


def timed(batches: Iterator[torch.Tensor], count: int) -> float:
    began = time.perf_counter()
    total = sum(len(batch) for batch in batches)
    assert total == count
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
