"""imagededup's CNN encoder, ``encode_images``, with the same network. Prints images/s as JSON."""

import argparse
import json
import os
import time
from pathlib import Path

import timm
from imagededup.methods import CNN
from imagededup.utils import CustomModel

from embedkit.backbones import find_spec


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    model = timm.create_model(find_spec(args.backbones).timm_name, pretrained=False, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    config = CustomModel(name=args.backbones, model=model.eval(), transform=transform)
    encoder = CNN(verbose=False, model_config=config)
    began = time.perf_counter()
    found = encoder.encode_images(image_dir=str(args.images), num_enc_workers=os.cpu_count() or 1)
    print(json.dumps(len(found) / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
