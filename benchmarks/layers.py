"""Where does a network's time go on a CPU, layer by layer, and how near is each to a plain product?

    python benchmarks/layers.py [--backbone resnet50_swsl] [--precisions fp32,bf16] [--batch 4]

Runs the network in OpenVINO on one core with random pixels, and adds up the time of its layers by
kind: convolutions by the size of their kernel, all else by its operation. The rate of a kind is
compared with that of a product of matrices of 2048 x 2048 in the same precision by PyTorch, on one
core, in the same run. Random weights, where the backbone's aren't on this machine: speed only.
"""

import argparse
import math
from collections import Counter
from typing import Any

import numpy as np
import openvino as ov
import torch
from support.machine import print_facts, why_no_bf16
from support.tables import print_table
from support.timing import rate

from embedkit import load_backbone
from embedkit.errors import BackboneError

_MATRIX, _SECONDS, _RUNS = 2048, 3.0, 20
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50_swsl")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    print_facts()
    torch.set_num_threads(1)
    model = converted(args.backbone, args.batch)
    work = operations(model)
    for precision in args.precisions.split(","):
        if precision == "bf16" and (reason := why_no_bf16("cpu")):
            print(f"bf16: {reason}")
            continue
        show(precision, args.batch, times(model, precision), work, product_rate(precision))


def converted(name: str, batch: int) -> ov.Model:
    try:
        backbone = load_backbone(name)
    except BackboneError:
        backbone = load_backbone(name, weights="random")
    side = backbone.preprocessing.crop
    example = torch.zeros(batch, 3, side, side)
    with torch.inference_mode():
        model = ov.convert_model(torch.export.export(backbone.module, (example,)))
    model.reshape([batch, 3, side, side])
    return model


def operations(model: ov.Model) -> dict[str, tuple[str, float]]:
    """The kind of each layer that multiplies, and its floating point operations."""
    found = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in {"Convolution", "GroupConvolution", "MatMul"}:
            continue
        weights = [*node.input(1).get_shape()]
        groups = weights[0] if kind == "GroupConvolution" else 1
        inputs = math.prod(weights[2:]) if groups > 1 else math.prod(weights[1:])
        label = f"{weights[-2]} x {weights[-1]} convolution" if kind != "MatMul" else "product"
        if groups > 1:
            label += ", depthwise" if weights[1] == weights[2] == 1 else ", in groups"
        found[node.get_friendly_name()] = label, 2.0 * math.prod(node.output(0).shape) * inputs
    return found


def times(model: ov.Model, precision: str) -> list[tuple[str, list[str], float]]:
    """Of each layer as it ran: its operation, the layers it is made of, microseconds."""
    compiled = ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERF_COUNT": True,
        },
    )
    request = compiled.create_infer_request()
    pixels = np.random.default_rng(0).standard_normal([*model.input(0).shape], np.float32)
    for _ in range(_RUNS):
        request.infer([pixels], share_inputs=True)
    return [layer(node.get_rt_info()) for node in compiled.get_runtime_model().get_ordered_ops()]


def layer(info: Any) -> tuple[str, list[str], float]:
    def text(key: str) -> str:
        return str(info[key].astype(str)) if key in info else ""

    spent = text("execTimeMcs")
    return (
        text("layerType"),
        text("originalLayersNames").split(","),
        float(spent) if spent.isdigit() else 0.0,
    )


def product_rate(precision: str) -> float:
    """GFLOP/s of a large product on one core."""
    one, other = (torch.randn(_MATRIX, _MATRIX).to(_DTYPES[precision]) for _ in range(2))
    products = rate(lambda _: (one @ other)[0, 0].item(), [None] * 4, 1, seconds=_SECONDS)
    return products * 2 * _MATRIX**3 / 1e9


def show(
    precision: str,
    batch: int,
    layers: list[tuple[str, list[str], float]],
    work: dict[str, tuple[str, float]],
    product: float,
) -> None:
    spent: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for operation, names, micros in layers:
        known = [work[name] for name in names if name in work]
        kind = known[0][0] if known else operation
        spent[kind] += micros
        done[kind] += sum(flops for _, flops in known)
    total = sum(spent.values())
    rows = [
        [kind, f"{micros / total:.1%}", *speeds(done[kind], micros, product)]
        for kind, micros in spent.most_common()
        if micros >= total / 1000
    ]
    rows.append(["**all**", "100%", *speeds(sum(done.values()), total, product)])
    print(
        f"\n{precision}, batches of {batch}, one core: {1e6 * batch / total:.1f} images/s; ", end=""
    )
    print(f"a product of {_MATRIX} x {_MATRIX}: {product:.0f} GFLOP/s\n")
    print_table(["", "of the time", "GFLOP/s", "of the product's"], rows)


def speeds(flops: float, micros: float, product: float) -> list[str]:
    if not flops:
        return ["", ""]
    found = flops / micros / 1000
    return [f"{found:.0f}", f"{found / product:.0%}"]


if __name__ == "__main__":
    main()
