"""imagededup's CNN encoder, ``encode_images``, with the same network. Prints its rate as JSON.

Its batch size (64) and fp32 are fixed. What its documentation leaves open is ``num_enc_workers``,
0 or a number of processes: none and one a core are tried on a quarter of the images, and the
better one is taken. It runs on CUDA whenever there is one.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import timm
import torch
from imagededup.methods import CNN
from imagededup.utils import CustomModel

from embedkit.backbones import find_spec


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.device == "cpu" and torch.cuda.is_available():
        raise SystemExit("imagededup always takes CUDA here: hide it by CUDA_VISIBLE_DEVICES=")
    model = timm.create_model(find_spec(args.backbones).timm_name, pretrained=False, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    config = CustomModel(name=args.backbones, model=model.eval(), transform=transform)
    encoder = CNN(verbose=False, model_config=config)
    files = sorted(path for path in args.images.rglob("*") if path.is_file())
    trial = files[: max(128, len(files) // 4)]
    workers = max((0, os.cpu_count() or 1), key=lambda number: rate(encoder, trial, number))
    print(
        json.dumps(
            {
                "rate": rate(encoder, files, workers),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "note": f"{workers} workers",
            }
        )
    )


def rate(encoder: CNN, files: list[Path], workers: int) -> float:
    """Images a second for the files, from one flat folder, as it wants them."""
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            (Path(folder) / path.name).symlink_to(path.resolve())
        began = time.perf_counter()
        found = encoder.encode_images(image_dir=folder, num_enc_workers=workers)
        return len(found) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
