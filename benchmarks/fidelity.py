"""How near is every path's embedding to exact fp32, on your images?

    python benchmarks/fidelity.py --images photos/

The oracle is Pillow's decoder and PyTorch eager in fp32, one image at a time, not through
embedkit's engines. Each row is a whole extraction: a decoder, an engine, a precision, rows kept as
float32; the last one keeps float16, as is the default. Columns: how far the decoder's pixels are
from Pillow's (levels of 255), the cosines of the embeddings to the oracle's, the images whose
nearest other image, and whose class by the stored head, are the oracle's, and images/s of that
extraction (a short one: extract.py has rates that hold). A path that this machine lacks is named
with the reason.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from support.agreement import AGREEMENT_HEADER, agreement, eager_features
from support.machine import print_facts
from support.photos import image_files
from support.tables import print_table

if TYPE_CHECKING:
    from embedkit.backbones import Backbone


@dataclass(frozen=True)
class Way:
    """One way from an image to a row."""

    decoder: str
    engine: str
    device: str
    precision: str
    dtype: str = "float32"

    def __str__(self) -> str:
        where = self.engine if self.device == "cpu" else f"{self.engine} on {self.device}"
        stored = "" if self.dtype == "float32" else f", stored as {self.dtype}"
        return f"{self.decoder}, {where} {self.precision}{stored}"


def main() -> None:
    args = parse_arguments()
    from embedkit.backbones import load_backbone

    print_facts()
    backbone = load_backbone(args.backbone)
    files = readable(image_files(args.images), backbone)
    gaps = pixel_gaps(files, backbone)
    oracle = eager_features(backbone, exact_pixels(files, backbone))
    print(f"{args.backbone}, {len(files)} images from {args.images}")
    rows = []
    for way in ways(["cpu", "cuda"] if has_cuda() else ["cpu"], compiled=args.compiled):
        found = embedded(way, files, backbone)
        if isinstance(found, str):
            print(f"{way}: not measured: {found}", flush=True)
            continue
        embeddings, rate = found
        likeness = agreement(oracle, embeddings, backbone.head).cells()
        rows.append([str(way), str(gaps[way.decoder]), *likeness, f"{rate:.1f}"])
    print_table(["", "pixels, max", *AGREEMENT_HEADER, "images/s"], rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0", help="a trained one")
    parser.add_argument("--compiled", action="store_true", help="the engine torch-compiled too")
    return parser.parse_args()


def ways(devices: list[str], *, compiled: bool) -> Iterator[Way]:
    """Every decoder, engine and precision; exact fp32 comes first."""
    for device in devices:
        engines = ["openvino"] * (device == "cpu") + ["torch"] + ["torch-compiled"] * compiled
        for engine in engines:
            for precision in ("fp32", "bf16", "int8") if engine == "openvino" else ("fp32", "bf16"):
                for decoder in ("exact", "fast"):
                    yield Way(decoder, engine, device, precision)
        yield Way("fast", "auto", device, "fp32", "float16")


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def readable(files: list[Path], backbone: "Backbone") -> list[Path]:
    """The files that decode; the others have no embedding to compare."""
    from embedkit.decode.exact import decode_image
    from embedkit.errors import DecodeError

    found = []
    for path in files:
        try:
            backbone.preprocessing.check(decode_image(path.read_bytes(), str(path)).image.size)
        except (DecodeError, ValueError) as exc:
            print(f"{path}: left out: {exc}")
        else:
            found.append(path)
    return found


def exact_pixels(files: list[Path], backbone: "Backbone") -> list[NDArray[np.uint8]]:
    from embedkit.decode.exact import decode_image

    return [
        backbone.preprocessing.apply(decode_image(path.read_bytes(), str(path)).image)
        for path in files
    ]


def pixel_gaps(files: list[Path], backbone: "Backbone") -> dict[str, int]:
    """The largest difference of each decoder's pixels to Pillow's, in levels."""
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.policy import DecodePolicy

    exact = exact_pixels(files, backbone)
    gaps = {}
    for decoder in ("exact", "fast"):
        load = ImageLoader(DecodePolicy(), backbone.preprocessing, decoder)
        found = [load(path.read_bytes(), str(path)).pixels.astype(np.int16) for path in files]
        gaps[decoder] = max(int(np.abs(a - b).max()) for a, b in zip(found, exact, strict=True))
    return gaps


def embedded(
    way: Way, files: list[Path], backbone: "Backbone"
) -> tuple[NDArray[np.float32], float] | str:
    """The rows in the files' order and the rate; or why this machine can't."""
    import embedkit
    from embedkit.errors import EmbedkitError

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "photos.h5"
        try:
            result = embedkit.extract(
                files,
                output,
                backbone=backbone,
                engine=way.engine,
                device=way.device,
                precision=way.precision,
                decoder=way.decoder,
                dtype=way.dtype,
            )
        except (EmbedkitError, ValueError) as exc:
            return str(exc)
        with embedkit.EmbeddingStore.open(output) as store:
            place = {name: row for row, name in enumerate(store.ids)}
            ran = store.meta.engine["precision"]
            if ran != way.precision:
                return f"the engine ran in {ran}"
            order = [place[str(path)] for path in files]
            return store.to_numpy(np.float32)[order], result.images_per_second


if __name__ == "__main__":
    main()
