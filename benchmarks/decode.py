"""How fast are JPEGs decoded, scaled and cropped, and how near to Pillow's pixels?

    python benchmarks/decode.py --images photos/ [--count 320] [--sizes]

One table a scaling filter: images per second of one core's CPU time, and per second with a thread
on each core, each as a ratio to Pillow's in the same run, for Pillow, embedkit's two decoders, and
what else users take: torchvision, simplejpeg or OpenCV with Pillow's scaling, OpenCV's own
scaling. Then how far the pixels are from Pillow's, and what that does to the features of a trained
network (fp32, PyTorch eager, on those pixels): cosine, nearest other image, class. Below it,
decoding alone: the ceiling of any scaling.

The tables take the files that plain Pillow code reads right: RGB JPEGs, upright, sRGB. What the
rest costs (profiles, gray, CMYK), and what the pipeline does beside decoding, is in a table of its
own.

``--sizes`` does the same for photos scaled up to 1, 3 and 12 megapixels, with grain, and adds
decoding at a reduced size in the DCT, which embedkit doesn't do.
"""

import argparse
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec as find_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support.agreement import AGREEMENT_HEADER, Agreement, agreement, eager_features
from support.machine import print_facts, usable_cores
from support.photos import enlarge, image_files
from support.tables import print_table
from support.timing import core_rate, rate

if TYPE_CHECKING:
    from embedkit.backbones import Backbone
    from embedkit.decode.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]
Method = Callable[[bytes], Pixels]


def main() -> None:
    args = parse_arguments()
    from embedkit.backbones import load_backbone

    print_facts()
    backbone = load_backbone(args.backbone)
    files = [path.read_bytes() for path in image_files(args.images)]
    ordinary = [data for data in files if is_ordinary(data)]
    print(f"{len(ordinary)} of {len(files)} files are ordinary JPEGs, {describe(ordinary)}")
    for interpolation in args.interpolations.split(","):
        preprocessing = replace(backbone.preprocessing, interpolation=interpolation)
        methods = {**whole_methods(preprocessing), **opencv_methods(preprocessing)}
        print(
            f"\nscaled by {interpolation} to {preprocessing.resize}, cropped {preprocessing.crop}"
        )
        compare(methods, ordinary, args, backbone)
    show_ceilings(ordinary, args)
    show_pipeline(files, backbone.preprocessing, args)
    if args.sizes:
        show_sizes(ordinary, args, backbone)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=320, help="images a timing, repeated")
    parser.add_argument("--rounds", type=int, default=6, help="each rate is the best of these")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="of the features")
    parser.add_argument("--interpolations", default="bilinear,bicubic")
    parser.add_argument("--sizes", action="store_true", help="photos of 1, 3 and 12 megapixels too")
    parser.add_argument("--large-count", type=int, default=16, help="photos a size")
    return parser.parse_args()


def is_ordinary(data: bytes) -> bool:
    """Whether ``Image.open(...).convert("RGB")`` gives the pixels that are meant."""
    from embedkit.decode.exact import read_jpeg_header
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.sniff import sniff_format

    if sniff_format(data) != "JPEG":
        return False
    header = read_jpeg_header(data, "", DecodePolicy())
    return header is not None and header.to_srgb is None and header.orientation == 1


def describe(files: Sequence[bytes]) -> str:
    sides = np.array([Image.open(io.BytesIO(data)).size for data in files])
    width, height = np.median(sides, axis=0)
    kib = np.mean([len(data) for data in files]) / 1024
    return f"median {width:.0f} x {height:.0f}, mean {kib:.0f} KiB"


def whole_methods(preprocessing: "Preprocessing") -> dict[str, Method]:
    """Pillow first, which all else is compared with; every method is bytes to cropped pixels."""
    import simplejpeg

    def simplejpeg_box(data: bytes) -> Pixels:
        image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB"))
        return boxed(image, preprocessing)

    return {
        "Pillow": lambda data: scaled(Image.open(io.BytesIO(data)).convert("RGB"), preprocessing),
        "Pillow, only the crop scaled (box)": lambda data: boxed(
            Image.open(io.BytesIO(data)).convert("RGB"), preprocessing
        ),
        "torchvision decode_jpeg + v2 antialias": torchvision_method(preprocessing),
        "simplejpeg + Pillow box": simplejpeg_box,
        **embedkit_methods(preprocessing),
    }


def scaled(image: Image.Image, preprocessing: "Preprocessing") -> Pixels:
    """Scaled whole, then cropped, by torchvision's transforms for Pillow images: the reference."""
    from torchvision.transforms import functional

    resized = functional.resize(
        image,
        preprocessing.resize,
        functional.InterpolationMode(preprocessing.interpolation),
    )
    return np.array(functional.center_crop(resized, preprocessing.crop))


def boxed(image: Image.Image, preprocessing: "Preprocessing") -> Pixels:
    """Only what the crop shows is scaled, from its place in the whole image."""
    width, height = preprocessing.resized_size(image.size)
    left, top = preprocessing.crop_origin((width, height))
    across, down = image.width / width, image.height / height
    side = preprocessing.crop
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    return np.asarray(image.resize((side, side), resample, box=box))


def torchvision_method(preprocessing: "Preprocessing") -> Method:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import InterpolationMode, functional

    mode = InterpolationMode(preprocessing.interpolation)

    def method(data: bytes) -> Pixels:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        image = decode_jpeg(encoded, ImageReadMode.RGB)
        image = functional.resize(image, [preprocessing.resize], mode, antialias=True)
        return functional.center_crop(image, [preprocessing.crop]).permute(1, 2, 0).numpy()

    return method


def embedkit_methods(preprocessing: "Preprocessing") -> dict[str, Method]:
    from embedkit.decode import fast
    from embedkit.decode.exact import decode_image
    from embedkit.decode.policy import DecodePolicy

    policy = DecodePolicy()

    def exact(data: bytes) -> Pixels:
        return preprocessing.apply(decode_image(data, "", policy).image)

    def quick(data: bytes) -> Pixels:
        pixels = fast.decode_jpeg(data, "", policy)
        return exact(data) if pixels is None else fast.scale_and_crop(pixels, preprocessing)

    return {"embedkit exact": exact, "embedkit fast": quick}


def opencv_methods(preprocessing: "Preprocessing") -> dict[str, Method]:
    """OpenCV with Pillow's scaling, and with its own, which doesn't antialias; if it's there."""
    if find_module("cv2") is None:
        print("OpenCV isn't installed (pip install opencv-python-headless): left out")
        return {}
    import cv2

    cv2.setNumThreads(1)
    own = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[preprocessing.interpolation]

    def decode(data: bytes) -> Pixels:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

    def own_scaling(flag: int) -> Method:
        def method(data: bytes) -> Pixels:
            pixels = decode(data)
            size = preprocessing.resized_size((pixels.shape[1], pixels.shape[0]))
            left, top = preprocessing.crop_origin(size)
            side = preprocessing.crop
            return cv2.resize(pixels, size, interpolation=flag)[
                top : top + side, left : left + side
            ]

        return method

    return {
        "OpenCV + Pillow box": lambda data: boxed(Image.fromarray(decode(data)), preprocessing),
        "OpenCV, no antialias": own_scaling(own),
        "OpenCV INTER_AREA": own_scaling(cv2.INTER_AREA),
    }


def reduced_methods(preprocessing: "Preprocessing") -> dict[str, Method]:
    """Decoding at 1/2, 1/4 or 1/8 in the DCT, to at least the size that is scaled to."""
    import simplejpeg

    from embedkit.decode import fast

    def draft(data: bytes) -> Pixels:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", preprocessing.resized_size(image.size))
        return scaled(image.convert("RGB"), preprocessing)

    def reduced(data: bytes) -> Pixels:
        side = preprocessing.resize
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, min_factor=1)
        return fast.scale_and_crop(pixels, preprocessing)

    return {"Pillow draft (reduced DCT)": draft, "simplejpeg reduced DCT + PyTorch": reduced}


@dataclass(frozen=True)
class Difference:
    """From Pillow's pixels: levels of 255, and the share of images without any."""

    most: int
    mean: float
    equal: float

    @classmethod
    def between(cls, exact: Sequence[Pixels], other: Sequence[Pixels]) -> "Difference":
        gaps = [np.abs(one.astype(np.int16) - two) for one, two in zip(exact, other, strict=True)]
        most = [int(gap.max()) for gap in gaps]
        equal = sum(value == 0 for value in most) / len(most)
        return cls(max(most), float(np.mean([gap.mean() for gap in gaps])), equal)

    def cells(self) -> list[str]:
        return [str(self.most), f"{self.mean:.4f}", f"{100 * self.equal:.1f}%"]


def compare(
    methods: Mapping[str, Method],
    files: Sequence[bytes],
    args: argparse.Namespace,
    backbone: "Backbone",
    count: int | None = None,
) -> None:
    """The table of rates and likeness; the first method is what the others are compared with."""
    likeness = compare_results(methods, files, backbone)
    rates = measure_rates(methods, repeated(files, count or args.count), args.rounds)
    one, every = rates[next(iter(methods))]
    rows = []
    for name, (difference, features) in likeness.items():
        alone, together = rates[name]
        cells = [f"{alone:.0f}", f"{alone / one:.2f}", f"{together:.0f}", f"{together / every:.2f}"]
        rows.append([name, *cells, *difference.cells(), *features.cells()])
    speed = ["one core/s", "x Pillow", f"{usable_cores()} threads/s", "x Pillow"]
    print_table(["", *speed, "max", "mean", "bit-exact", *AGREEMENT_HEADER], rows)


def compare_results(
    methods: Mapping[str, Method], files: Sequence[bytes], backbone: "Backbone"
) -> dict[str, tuple[Difference, Agreement]]:
    pixels = {name: [method(data) for data in files] for name, method in methods.items()}
    exact = pixels[next(iter(methods))]
    rows = eager_features(backbone, exact)
    return {
        name: (
            Difference.between(exact, found),
            agreement(rows, eager_features(backbone, found), backbone.head),
        )
        for name, found in pixels.items()
    }


def measure_rates(
    methods: Mapping[str, Callable[[bytes], object]], files: Sequence[bytes], rounds: int
) -> dict[str, tuple[float, float]]:
    """Images a second of one core and of all; all methods in turn, the best of rounds."""
    import torch

    torch.set_num_threads(1)  # the callers are as many as the cores
    best = dict.fromkeys(methods, (0.0, 0.0))
    for _ in range(rounds):
        for name, method in methods.items():
            one, every = core_rate(method, files), rate(method, files, usable_cores())
            best[name] = (max(one, best[name][0]), max(every, best[name][1]))
    return best


def repeated(files: Sequence[bytes], count: int) -> list[bytes]:
    return [files[number % len(files)] for number in range(count)]


def show_ceilings(files: Sequence[bytes], args: argparse.Namespace) -> None:
    """Decoding alone, beside decoding with scaling: what is left to gain."""
    import simplejpeg

    from embedkit.decode import fast
    from embedkit.decode.policy import DecodePolicy

    policy = DecodePolicy()
    print("\ndecoding alone, all pixels, nothing scaled")
    show_rates(
        {
            "Pillow": lambda data: Image.open(io.BytesIO(data)).load(),
            "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
            "embedkit fast, header and policy too": lambda data: fast.decode_jpeg(data, "", policy),
        },
        files,
        args,
    )


def show_pipeline(
    files: Sequence[bytes], preprocessing: "Preprocessing", args: argparse.Namespace
) -> None:
    """All files, and all that an extraction does to an image before the engine."""
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.resize import scale_in_torch

    exact, fast = (
        ImageLoader(DecodePolicy(), preprocessing, kind, scale_in_torch)
        for kind in ("exact", "fast")
    )
    decoders = embedkit_methods(preprocessing)
    print("\nall files: profiles, gray and CMYK too")
    show_rates(
        {
            "embedkit exact": decoders["embedkit exact"],
            "embedkit fast": decoders["embedkit fast"],
            "fast + perceptual hash": lambda data: fast(data, "").phash,
            "fast + perceptual hash + SHA-256": lambda data: (fast(data, "").phash, sha256(data)),
        },
        files,
        args,
    )
    same = sum(exact(data, "").phash == fast(data, "").phash for data in files)
    print(f"perceptual hash of both decoders equal: {same} of {len(files)}")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def show_rates(
    methods: Mapping[str, Callable[[bytes], object]],
    files: Sequence[bytes],
    args: argparse.Namespace,
) -> None:
    rates = measure_rates(methods, repeated(files, args.count), args.rounds)
    one, every = next(iter(rates.values()))
    rows = [
        [name, f"{a:.0f}", f"{a / one:.2f}", f"{b:.0f}", f"{b / every:.2f}"]
        for name, (a, b) in rates.items()
    ]
    print_table(["", "one core/s", "x first", f"{usable_cores()} threads/s", "x first"], rows)


def show_sizes(files: Sequence[bytes], args: argparse.Namespace, backbone: "Backbone") -> None:
    """The same for large photos."""
    step = max(1, len(files) // args.large_count)
    chosen = files[::step][: args.large_count]
    preprocessing = replace(backbone.preprocessing, interpolation="bilinear")
    methods = {**whole_methods(preprocessing), **reduced_methods(preprocessing)}
    kinds = [(1, False), (3, False), (12, False), (12, True)]
    for megapixels, progressive in kinds:
        large = enlarge(chosen, megapixels, progressive=progressive)
        title = f"{megapixels} megapixels{', progressive' if progressive else ''}"
        print(f"\n{title}: {len(large)} photos scaled up, {describe(large)}; bilinear")
        compare(methods, large, args, backbone, count=len(large))


if __name__ == "__main__":
    main()
