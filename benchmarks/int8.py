"""Can int8 keep a trained network's embeddings, if the layers that suffer most stay in fp32?

    python benchmarks/int8.py --images photos/ [--backbone efficientnet_lite0] [--kept 40,20,10]

Quantizes the network by NNCF as embedkit does, calibrated with half of the images; the others are
embedded and compared with fp32. Then with single convolutions quantized, to find how much each
loses, and with so many of those that lose least. Beside it fp32 and bf16. Rates are of one core, in
batches of 4. Weights must be trained: random ones make every precision look good.
"""

import argparse
import io
import logging
from contextlib import redirect_stdout
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import torch
from support.machine import print_facts, why_no_bf16
from support.photos import image_files
from support.tables import print_table
from support.timing import rate

from embedkit import load_backbone
from embedkit.backbones import Backbone
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.engines.fidelity import GATE, measure_fidelity

_BATCH = 4
_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--kept", default="40,30,20,10", help="convolutions in int8")
    args = parser.parse_args()
    print_facts()
    nncf.set_log_level(logging.ERROR)
    backbone = load_backbone(args.backbone)
    pixels = batches(args.images, backbone)
    calibration, test = pixels[0::2], pixels[1::2]
    model = converted(backbone)
    reference = embedded(model, test)
    convolutions = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() in {"Convolution", "GroupConvolution"}
    ]
    rows: list[list[str]] = []

    def add(name: str, network: ov.Model, hint: str = "f32") -> float:
        fidelity = measure_fidelity(reference, embedded(network, test, hint))
        values = fidelity.cosine_min, fidelity.cosine_1pct, fidelity.cosine_median
        speed = images_per_second(network, test, hint)
        passes = "yes" if fidelity.reaches(GATE) else "no"
        cosines = [f"{value:.5f}" for value in values]
        rows.append([name, *cosines, f"{fidelity.same_neighbor:.1%}", passes, f"{speed:.0f}"])
        return fidelity.cosine_median

    add("fp32", model)
    if not why_no_bf16("cpu"):
        add("bf16", model, "bf16")
    add("int8", quantized(model, calibration, []))
    lost = {}
    for one in convolutions:
        alone = quantized(model, calibration[:8], [name for name in convolutions if name != one])
        lost[one] = 1 - measure_fidelity(reference, embedded(alone, test)).cosine_median
    order = sorted(convolutions, key=lost.__getitem__)
    for kept in map(int, args.kept.split(",")):
        name = f"int8 in the {kept} of {len(order)} convolutions that lose least"
        add(name, quantized(model, calibration, order[kept:]))
    header = ["", "cosine, minimum", "1%", "median", "same neighbour", "passes", "images/s"]
    print_table(header, rows)


def batches(images: Path, backbone: Backbone) -> list[np.ndarray]:
    """Arrays ``(4, S, S, 3) uint8``."""
    load = ImageLoader(DecodePolicy(), backbone.preprocessing, "fast")
    files = image_files(images)
    pixels = [load(path.read_bytes(), str(path)).pixels for path in files]
    starts = range(0, len(pixels) - _BATCH + 1, _BATCH)
    return [np.stack(pixels[start : start + _BATCH]) for start in starts]


def converted(backbone: Backbone) -> ov.Model:
    """The network, from pixels to features."""
    settings = backbone.preprocessing
    example = torch.zeros(_BATCH, 3, settings.crop, settings.crop)
    with torch.inference_mode():
        model = ov.convert_model(torch.export.export(backbone.module, (example,)))
    model.reshape([*example.shape])
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    scaled = steps.input().preprocess().convert_element_type(ov.Type.f32)
    scaled.mean([255 * one for one in settings.mean]).scale([255 * one for one in settings.std])
    return steps.build()


def quantized(model: ov.Model, calibration: list[np.ndarray], apart: list[str]) -> ov.Model:
    """In int8, but for the layers of these names."""
    scope = nncf.IgnoredScope(names=apart) if apart else None
    with redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model, nncf.Dataset(calibration), subset_size=len(calibration), ignored_scope=scope
        )


def opened(model: ov.Model, hint: str) -> ov.InferRequest:
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    return ov.Core().compile_model(model, "CPU", settings).create_infer_request()


def embedded(model: ov.Model, batches: list[np.ndarray], hint: str = "f32") -> np.ndarray:
    request = opened(model, hint)
    return np.concatenate([next(iter(request.infer([one]).values())).copy() for one in batches])


def images_per_second(model: ov.Model, batches: list[np.ndarray], hint: str) -> float:
    request = opened(model, hint)
    return _BATCH * rate(lambda one: request.infer([one]), batches, seconds=_SECONDS)


if __name__ == "__main__":
    main()
