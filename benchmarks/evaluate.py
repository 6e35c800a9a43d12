"""Does `embedkit evaluate` count what timm's own pipeline counts?

    python benchmarks/evaluate.py --images photos/

Embeds images that are named by synset (n01443537_goldfish.JPEG, or a folder a synset) into a store
and evaluates it; then runs the whole network of timm, with timm's own transform, Pillow and PyTorch
in fp32, over the same files. Prints top-1 and top-5 of both, and on how many images they agree.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from support.machine import print_facts
from support.tables import print_table
from timm.data import create_transform, resolve_data_config

import embedkit
from embedkit.analysis.classification.ground_truth import Truth
from embedkit.backbones import load_backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    args = parser.parse_args()
    print_facts()
    backbone = load_backbone(args.backbone)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.h5"
        embedkit.extract(args.images, path, backbone=backbone)
        found = embedkit.evaluate(path)
        ours = np.concatenate([batch.classes for batch in embedkit.classify(path, 5)])
        with embedkit.EmbeddingStore.open(path) as store:
            ids = list(store.ids)
            truth = Truth(store.head).numbers(ids, [""] * len(ids))
    theirs = timm_classes(backbone, ids)
    known = truth >= 0
    rows = [("embedkit evaluate", *(str(one.right) for one in (found.top1, found.top5)))]
    rows.append(("timm's pipeline", *counts(theirs[known], truth[known])))
    print_table(("", "top-1", "top-5"), [(name, a, b) for name, a, b in rows])
    same = ours == theirs
    print(f"\nof {known.sum()} images; the likeliest class is the same on {same[:, 0].sum()} of")
    print(f"{len(ids)}, all five in their order on {same.all(axis=1).sum()}")


def counts(classes: np.ndarray, truth: np.ndarray) -> tuple[str, str]:
    """How many are right, among one and among five."""
    right = classes == truth[:, None]
    return str(right[:, 0].sum()), str(right.any(axis=1).sum())


def timm_classes(backbone: embedkit.backbones.Backbone, ids: list[str]) -> np.ndarray:
    """The five likeliest classes of each file, as timm documents it."""
    name = backbone.spec.timm_name
    network = timm.create_model(name)
    network.load_state_dict(backbone.classifier.state_dict())
    network.eval()
    config = resolve_data_config({}, model=network)
    transform = create_transform(**config)
    found = []
    with torch.inference_mode():
        for image_id in ids:
            pixels = transform(Image.open(image_id).convert("RGB"))
            found.append(network(pixels[None]).topk(5).indices[0].numpy())
    return np.stack(found)


if __name__ == "__main__":
    main()
