"""timm and a DataLoader, as in timm's documentation; or, with --tuned, as well as it can be done.

Plain: ``create_model(num_classes=0)``, ``create_transform``, DataLoader with a worker a core and
batches of 64, fp32. Tuned: inference mode, channels_last, and the best of batches of 8, 16, 32 and
64 in fp32 and bf16 autocast, each tried on a tenth of the images first. Prints images/s as JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from embedkit.backbones import find_spec


class Photos(Dataset):
    """Every image of a folder, transformed."""

    def __init__(self, files: list[Path], transform: object) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[number]).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tuned", action="store_true")
    args = parser.parse_args()
    model = timm.create_model(find_spec(args.backbones).timm_name, pretrained=False, num_classes=0)
    model = model.eval().to(args.device)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    files = sorted(args.images.iterdir())
    if not args.tuned:
        print(json.dumps(plain(model, Photos(files, transform), args.device)))
        return
    model = model.to(memory_format=torch.channels_last)
    trial = Photos(files[: max(128, len(files) // 10)], transform)
    _, batch, dtype = max(
        (tuned(model, trial, args.device, batch, dtype), batch, str(dtype).split(".")[1])
        for batch in (8, 16, 32, 64)
        for dtype in (torch.float32, torch.bfloat16)
    )
    photos = Photos(files, transform)
    print(json.dumps(tuned(model, photos, args.device, batch, getattr(torch, dtype))))


def plain(model: torch.nn.Module, photos: Photos, device: str) -> float:
    def run() -> Iterator[torch.Tensor]:
        with torch.no_grad():
            for batch in DataLoader(photos, batch_size=64, num_workers=os.cpu_count() or 1):
                yield model(batch.to(device)).cpu()

    return timed(run(), len(photos))


def tuned(
    model: torch.nn.Module, photos: Photos, device: str, size: int, dtype: torch.dtype
) -> float:
    def run() -> Iterator[torch.Tensor]:
        workers = os.cpu_count() or 1
        loader = DataLoader(photos, batch_size=size, num_workers=workers, prefetch_factor=4)
        kind = torch.device(device).type
        with torch.inference_mode(), torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            for batch in loader:
                ready = batch.to(device, memory_format=torch.channels_last)
                yield model(ready).float().cpu()

    return timed(run(), len(photos))


def timed(batches: Iterator[torch.Tensor], count: int) -> float:
    began = time.perf_counter()
    total = sum(len(batch) for batch in batches)
    assert total == count
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
