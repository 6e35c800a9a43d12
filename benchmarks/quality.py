"""Does `embedkit quality` find faults, beside cleanvision, and what does it cost in decoding?

    python benchmarks/quality.py --images photos/ --cleanvision PYTHON

Gives each fault to a tenth of the photographs, by turns, in files of their own beside the
photographs as they are: dark, bright, blurred, nearly empty, gray, odd in size and in aspect ratio.
Extracts them, and prints recall per fault and precision per kind of issue, of both, with the
default thresholds of each. What the photographs have by themselves counts as wrong, for both.

The cost: CPU time of decoding the photographs (the fast decoder, scaling and hashing, one thread),
and of the measures and of reading the header alone, the least of several runs.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from support.machine import print_facts

import embedkit
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.phash import perceptual_hashes
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.quality import measure
from embedkit.decode.stated import stated

_PEER = Path(__file__).parent / "peers" / "cleanvision_issues.py"
_BATCH = 32
_RUNS = 7
_WHITE = (255, 255, 255)

Fault = Callable[[Image.Image], Image.Image]


def _blurred(share: float) -> Fault:
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def _nearly_empty(image: Image.Image) -> Image.Image:
    plain = Image.new("RGB", image.size, image.resize((1, 1)).getpixel((0, 0)))
    plain.paste(image.resize((image.width // 8, image.height // 8)), (image.width // 2, 9))
    return plain


# Kind of issue, cleanvision's name for it, and how a photograph gets the fault.
FAULTS: dict[str, tuple[str, str, Fault]] = {
    "dark, to a tenth": ("dark", "dark", lambda i: ImageEnhance.Brightness(i).enhance(0.1)),
    "dark, to a quarter": ("dark", "dark", lambda i: ImageEnhance.Brightness(i).enhance(0.25)),
    "bright": ("bright", "light", lambda i: Image.blend(i, Image.new("RGB", i.size, _WHITE), 0.85)),
    "blurred, 0.8% of the side": ("blurry", "blurry", _blurred(0.008)),
    "blurred, 2% of the side": ("blurry", "blurry", _blurred(0.02)),
    "nearly empty": ("low_information", "low_information", _nearly_empty),
    "gray": ("gray", "grayscale", lambda i: i.convert("L")),
    "odd size": ("odd_size", "odd_size", lambda i: i.resize((i.width * 5, i.height * 5))),
    "odd aspect": (
        "odd_aspect", "odd_aspect_ratio",
        lambda i: i.crop((0, i.height * 2 // 5, i.width, i.height * 2 // 5 + i.width // 5)),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cleanvision", help="Python with cleanvision")
    args = parser.parse_args()
    print_facts()
    files = sorted(path for path in args.images.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        given = draw_faults(files, folder)
        print(f"\n{len(files):,} photographs, {sum(map(len, given.values())):,} faults")
        found = {"embedkit": issues_of(folder, Path(scratch) / "store.h5")}
        if args.cleanvision:
            command = [args.cleanvision, str(_PEER), str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peer = json.loads(done.stdout.splitlines()[-1])
            found[f"{peer['name']} ({peer['seconds']:.1f} s)"] = peer["issues"]
        compare(given, found)
    cost(files)


def draw_faults(files: list[Path], folder: Path) -> dict[str, set[str]]:
    """Writes the photographs and those with faults; gives the names by fault."""
    folder.mkdir()
    given: dict[str, set[str]] = {name: set() for name in FAULTS}
    for number, path in enumerate(files):
        (folder / f"{number:04d}.jpg").write_bytes(path.read_bytes())
        for turn, (fault, (_, _, change)) in enumerate(FAULTS.items()):
            if number % 10 == turn:
                name = f"{number:04d}-{turn}.jpg"
                with Image.open(path) as image:
                    change(image.convert("RGB")).save(folder / name, quality=92)
                given[fault].add(name)
    return given


def issues_of(folder: Path, store: Path) -> dict[str, list[str]]:
    """The names by kind of issue, with the defaults."""
    embedkit.extract(
        folder, store, backbone="tiny",
        preprocessing=Preprocessing(resize=256, crop=224, interpolation="bilinear"),
    )  # fmt: skip
    report = embedkit.find_quality_issues(store)
    return {kind: [Path(i.id).name for i in report.of_kind(kind)] for kind in report.counts}


def compare(given: dict[str, set[str]], found: dict[str, dict[str, list[str]]]) -> None:
    """Prints recall per fault, and precision per kind of issue."""
    for who, issues in found.items():
        print(f"\n{who}\n{'fault':28}{'recall':>8}   {'issue':18}{'precision':>10}{'flagged':>9}")
        for fault, (kind, other, _) in FAULTS.items():
            flagged = set(issues.get(kind, issues.get(other, ())))
            of_kind = set().union(*(given[name] for name in FAULTS if FAULTS[name][0] == kind))
            recall = len(flagged & given[fault]) / len(given[fault])
            precision = f"{len(flagged & of_kind) / len(flagged):.2f}" if flagged else "-"
            print(f"{fault:28}{recall:>8.2f}   {kind:18}{precision:>10}{len(flagged):>9}")


def cost(files: list[Path]) -> None:
    """Prints the CPU time of decoding, and of what the measures add to it."""
    import torch

    torch.set_num_threads(1)
    data = [path.read_bytes() for path in files][: 4 * _BATCH]
    load = ImageLoader(DecodePolicy(), Preprocessing(), "fast")
    loaded = [load(one, "image") for one in data]
    batches = [
        (np.stack([i.pixels for i in some]), np.stack([i.thumbnail for i in some]))
        for some in (loaded[start : start + _BATCH] for start in range(0, len(loaded), _BATCH))
    ]
    decoding = least(lambda: [load(one, "image") for one in data], len(data))
    hashing = least(lambda: [perceptual_hashes(small) for _, small in batches], len(data))
    measuring = least(lambda: [measure(*batch, 256) for batch in batches], len(data))
    headers = least(
        lambda: [stated(one, image.format) for one, image in zip(data, loaded, strict=True)],
        len(data),
    )
    before = decoding + hashing
    print(f"\nCPU time an image: decoding and hashing {before:,.0f} us", end="")
    print(f", measures {measuring:.0f} us, headers {headers:.0f} us: ", end="")
    print(f"{100 * (measuring + headers) / before:.2f}% more")


def least(work: Callable[[], object], count: int) -> float:
    """Microseconds of CPU time per image, the least of several runs."""
    times = []
    for _ in range(_RUNS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e6 * min(times) / count


if __name__ == "__main__":
    main()
