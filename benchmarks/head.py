"""Does the stored head on stored float16 rows give the full network's top-1?

    python benchmarks/head.py --images photos/

Embeds the images into a store, classifies them from the store alone, and compares with the whole
network in PyTorch, fp32, on the same pixels. Prints how many agree, and how many classes are right
where the files are named by synset (n01443537_goldfish.JPEG).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import embedkit
from embedkit.backbones import Backbone, load_backbone
from embedkit.decode.exact import decode_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args()
    backbone = load_backbone(args.backbone)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.h5"
        embedkit.extract(args.images, path, backbone=backbone)
        with embedkit.EmbeddingStore.open(path) as store:
            ids, head, rows = list(store.ids), store.head, store.to_numpy(np.float32)
    stored = (rows @ head.weight.T + head.bias).argmax(axis=1)
    network = backbone.classifier  # a copy each time
    whole = np.array([top1(backbone, network, name) for name in ids])
    right = sum(head.class_ids[k] in Path(name).name for k, name in zip(stored, ids, strict=True))
    print(f"{(stored == whole).sum()} of {len(ids)}: same top-1 from the store and the network")
    print(f"{right} of {len(ids)}: top-1 is the synset in the file's name")


def top1(backbone: Backbone, network: torch.nn.Module, name: str) -> int:
    """The full network's class for one image."""
    image = decode_image(Path(name).read_bytes(), name).image
    pixels = torch.from_numpy(backbone.preprocessing.apply(image)).permute(2, 0, 1)[None]
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        logits = network((pixels / 255 - mean) / std)
    return int(logits.argmax())


if __name__ == "__main__":
    main()
