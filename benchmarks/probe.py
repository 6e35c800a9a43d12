"""Do probes of stored features give what scikit-learn gives on timm's own features of the files?

    python benchmarks/probe.py --images caltech20/ [--shots 20] [--trials 5]

Embeds a folder of class folders, draws so many images of each class several times, and probes:
kNN with each k, and a linear probe. Beside it the same splits in scikit-learn (KNeighborsClassifier
with the same weights; LogisticRegression with the same C) on the features that timm's own network,
transform and Pillow give for the same files. Prints top-1 of both, the mean over trials, and the
difference in points.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from support.machine import print_facts
from support.tables import print_table

import embedkit
from embedkit.backbones import load_backbone
from embedkit.probe import run_probe
from embedkit.probe.splits import draw_shots
from embedkit.probe.targets import read_targets
from embedkit.utils.knn_votes import TEMPERATURE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--trials", type=int, default=5)
    args = parser.parse_args()
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "photos.h5"
        embedkit.extract(args.images, store, backbone=args.backbone, labels="folder")
        compare(store, args.backbone, args.shots, args.trials)


def compare(path: Path, backbone: str, shots: int, trials: int) -> None:
    with embedkit.EmbeddingStore.open(path) as store:
        targets = read_targets(store)
    features = timm_features(backbone, list(targets.ids))
    results = {}
    for kind in ("knn", "linear"):
        began = time.perf_counter()
        results[kind] = run_probe(kind, path, shots=[shots], trials=trials)
        seconds = time.perf_counter() - began
        print(f"{kind}: {seconds / trials:.1f} s a split, with the check for copies")
    rows = []
    theirs: dict[str, list[float]] = {}
    ours: dict[str, list[float]] = {}
    for trial in range(trials):
        train = draw_shots(targets.ids, targets.strata, shots, f"0:shots:{trial}")
        run, linear = (results[kind].runs[trial] for kind in ("knn", "linear"))
        split = (features[train], targets.values[train], features[~train], targets.values[~train])
        for k, measures in run.by_k.items():
            ours.setdefault(f"kNN, k = {k}", []).append(measures["top1"].value)
            theirs.setdefault(f"kNN, k = {k}", []).append(sklearn_knn(*split, k))
        name = "linear, C chosen"
        ours.setdefault(name, []).append(linear.measures["top1"].value)
        theirs.setdefault(name, []).append(sklearn_linear(*split, linear.chosen["c"]))
    for name, mine in ours.items():
        one, two = 100 * np.mean(mine), 100 * np.mean(theirs[name])
        rows.append([name, f"{one:.2f}", f"{two:.2f}", f"{one - two:+.2f}"])
    tests = int((~train).sum())
    print(
        f"{shots} shots, {trials} splits, {tests} test images each; chosen C: "
        f"{', '.join(format(run.chosen['c'], '.3g') for run in results['linear'].runs)}"
    )
    print_table(["top-1, %", "embedkit", "scikit-learn on timm", "points"], rows)


def timm_features(name: str, paths: list[str]) -> NDArray[np.float32]:
    """Pooled features of unit length, by timm's transform and network in PyTorch eager."""
    import timm

    backbone = load_backbone(name)
    net = backbone.classifier.eval()  # a timm network with the same weights
    config = timm.data.resolve_model_data_config(net)
    transform = timm.data.create_transform(**config, is_training=False)
    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                pixels = transform(image.convert("RGB"))[None]
            maps = net.forward_features(pixels)
            rows.append(net.forward_head(maps, pre_logits=True)[0].numpy())
    features = np.stack(rows)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def sklearn_knn(train, known, test, truth, k: int) -> float:
    def weigh(distances):  # of unit vectors: cosine = 1 - squared distance / 2
        return np.exp((1 - distances**2 / 2) / TEMPERATURE)

    model = KNeighborsClassifier(k, weights=weigh, algorithm="brute").fit(train, known)
    return float(model.score(test, truth))


def sklearn_linear(train, known, test, truth, c: float) -> float:
    model = LogisticRegression(C=c, max_iter=5000).fit(train.astype(np.float64), known)
    return float(model.score(test.astype(np.float64), truth))


if __name__ == "__main__":
    main()
