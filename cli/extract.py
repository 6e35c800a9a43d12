"""``embedkit extract``."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from ._output import ExitCode, ProgressLine, count_of, plain, print_json, tell

if TYPE_CHECKING:
    from embedkit.backbones.load_options import LoadOptions
    from embedkit.decode.policy import DecodePolicy
    from embedkit.extraction.runner import ExtractResult, Progress

__all__ = ["Decode", "Dtype", "EngineName", "Pooling", "Precision", "command"]


class Pooling(StrEnum):
    """How a feature map becomes a vector."""

    AVG = "avg"
    GEM = "gem"
    MAX = "max"
    AVG_MAX = "avg+max"


class EngineName(StrEnum):
    """What runs the backbone."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TORCH = "torch"
    TORCH_COMPILED = "torch-compiled"


class Precision(StrEnum):
    """Of the backbone's arithmetic."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class Decode(StrEnum):
    """Which decoder ordinary JPEGs take."""

    FAST = "fast"
    EXACT = "exact"


class Dtype(StrEnum):
    """Of the stored rows."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


def command(
    context: typer.Context,
    source: Annotated[
        list[str],
        typer.Argument(
            help="Folder, image, list (.txt), glob, tar (brace patterns too), zip, Parquet, URL, "
            "or - for a list on stdin; several are taken in order."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write.")],
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="A name of 'embedkit models', or timm:NAME.")
    ] = "resnet50_swsl",
    weights: Annotated[
        str, typer.Option(help="auto, a .safetensors or .pth file, or random.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    pooling: Annotated[Pooling, typer.Option(help="Feature map to vector.")] = Pooling.AVG,
    gem_p: Annotated[float, typer.Option(help="Exponent of gem pooling.")] = 3.0,
    layers: Annotated[
        str, typer.Option(help="Earlier stages to pool and join, as layer3,layer4.")
    ] = "",
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the mirrored image; twice the work.")
    ] = False,
    input_size: Annotated[
        int | None, typer.Option(help="Side of the image that the network sees, pixels.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side before the crop, pixels.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="bilinear, bicubic, lanczos or nearest.")
    ] = None,
    crop_mode: Annotated[str | None, typer.Option(help="center or squash.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the stored rows.")] = Dtype.FLOAT16,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Store rows of unit length; the head won't apply.")
    ] = False,
    labels: Annotated[
        str, typer.Option(help="auto, none, folder, or a CSV or Parquet file of labels.")
    ] = "auto",
    image_column: Annotated[
        str | None, typer.Option(help="Parquet: the column that holds the images.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Parquet or a labels file: the column of labels.")
    ] = None,
    decode: Annotated[
        Decode,
        typer.Option(help="exact: Pillow to the bit; fast: twice as fast, 2 levels of 255 away."),
    ] = Decode.FAST,
    background: Annotated[
        str, typer.Option(help="Colour under transparent pixels, as R,G,B or #rrggbb.")
    ] = "255,255,255",
    max_pixels: Annotated[
        int, typer.Option(help="Larger images fail before they are decoded.")
    ] = 100_000_000,
    max_bytes: Annotated[int, typer.Option(help="Larger files fail before they are read.")] = 256
    * 2**20,
    engine: Annotated[
        EngineName, typer.Option(help="auto: OpenVINO on a CPU, PyTorch on CUDA.")
    ] = EngineName.AUTO,
    device: Annotated[
        str,
        typer.Option(help="auto (every GPU, or the CPU), cpu, cuda:N, or several: cuda:0,cuda:1."),
    ] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="auto: bf16 where the device has it and a trial on your images shows that it is "
            "faithful, else fp32. int8: OpenVINO only, less exact."
        ),
    ] = Precision.AUTO,
    batch_size: Annotated[
        str, typer.Option(help="Images a batch; auto goes by the device.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Number of decoding threads or processes [default: 1 per core]."),
    ] = None,
    processes: Annotated[
        bool | None,
        typer.Option(
            "--processes/--threads",
            help="Decode in processes or in threads [default: processes for a GPU, more than 4 "
            "cores and 10,000 images].",
        ),
    ] = None,
    sharded: Annotated[
        bool, typer.Option("--sharded", help="Keep a folder of shards, not one file.")
    ] = False,
    shard_rows: Annotated[
        int | None, typer.Option(help="Images a shard; the default is 16384.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the store; forget an interrupted run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and load, say what would be done, stop.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Embed every image of a source into an HDF5 store; go on where an earlier run stopped.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.extraction.dry_run import preview
    from embedkit.extraction.extract import extract

    line = ProgressLine(quiet=context.obj["quiet"])
    loading: LoadOptions = {
        "weights": weights,
        "seed": seed,
        "pooling": pooling.value,
        "gem_p": gem_p,
        "layers": tuple(filter(None, layers.split(","))),
        "flip": flip,
        "input_size": input_size,
        "preprocessing": _changed(resize, interpolation, crop_mode),
        "on_download": line.download,
    }
    settings: dict[str, Any] = {
        "backbone": backbone,
        "engine": engine.value,
        "device": device,
        "precision": precision.value,
        "batch_size": _batch_size(batch_size),
        "dtype": dtype.value,
        "normalize": normalize,
        "decoder": decode.value,
        "policy": _policy(background, max_pixels, max_bytes),
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
    }
    if dry_run:
        _show_preview(asdict(preview(source, output, loading=loading, **settings)), json=json)
        return
    with _Stopping(line) as stopping, line:
        result = extract(
            source,
            output,
            **settings,
            **loading,
            workers=workers,
            processes=processes,
            sharded=sharded,
            shard_rows=shard_rows,
            overwrite=overwrite,
            stop=stopping.event,
            on_progress=stopping.on_progress,
        )
    _report(result, json=json)


def _changed(
    resize: int | None, interpolation: str | None, crop_mode: str | None
) -> dict[str, Any]:
    given = {"resize": resize, "interpolation": interpolation, "crop_mode": crop_mode}
    return {name: value for name, value in given.items() if value is not None}


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--batch-size: a number or auto, not {text!r}") from exc


def _policy(background: str, max_pixels: int, max_bytes: int) -> DecodePolicy:
    from PIL import ImageColor

    from embedkit.decode.policy import DecodePolicy

    text = background if background.startswith("#") else f"rgb({background})"
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--background: R,G,B or #rrggbb, not {background!r}") from exc
    return DecodePolicy((red, green, blue), max_pixels, max_bytes)


_ALARM: signal.Signals | None = getattr(signal, "SIGALRM", None)  # Windows has none
_AGAIN_SECONDS = 2.0
_STDERR = 2


class _Stopping:
    """What Ctrl-C and SIGTERM do.

    Before the first image is embedded they end the program; then they ask for an orderly end, and
    a second one forces it.

    Attributes:
        event: Set when the run is to commit what is done and return.
    """

    def __init__(self, line: ProgressLine) -> None:
        self.event = threading.Event()
        self._line = line
        self._embedding = self._interrupted = False

    def on_progress(self, progress: Progress) -> None:
        """Shows the progress; from now on there is something to commit."""
        self._embedding = True
        self._line.update(progress)

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._interrupted and _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._interrupted and error is not None and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # that some library made another error of

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        if self._interrupted and number == _ALARM:
            raise KeyboardInterrupt
        if self.event.is_set() or not self._embedding:
            _say("interrupted")
            self._interrupted = True
            if _ALARM is not None:  # where a library calls back, Python drops the exception
                self._before[_ALARM] = signal.signal(_ALARM, self._on_signal)
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
            raise KeyboardInterrupt
        self.event.set()
        _say("stopping: committing what is done (again to stop at once)")


def _say(text: str) -> None:
    """Tells from a signal's handler, which may have interrupted a print: that can't begin again."""
    os.write(_STDERR, f"\n{text}\n".encode())


def _report(result: ExtractResult, *, json: bool) -> None:
    if json:
        print_json(asdict(result))
    elif result.complete:
        typer.echo(
            f"{plain(result.path)}: {result.found:,} found = {result.embedded:,} embedded + "
            f"{result.failed:,} failed + {result.skipped:,} skipped ({_effort(result)})"
        )
    if not result.complete:
        tell(
            f"interrupted after {result.found:,} images, all kept; run the same command again "
            "to go on"
        )
        raise typer.Exit(ExitCode.INTERRUPTED)
    if result.failed:
        images = count_of(result.failed, "image")
        tell(f"{images} failed: 'embedkit info --failures {result.path}' tells why")
        raise typer.Exit(ExitCode.SOME_FAILED)


def _effort(result: ExtractResult) -> str:
    if result.resumed >= result.found - result.skipped and not result.images_per_second:
        return "complete already"
    before = f", {result.resumed:,} of them before" if result.resumed else ""
    return f"{result.seconds:.1f} s, {result.images_per_second:.1f} images/s{before}"


def _show_preview(told: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(told)
        return
    for name, value in told.items():
        shown = f"{value:,}" if type(value) is int else plain(value)
        typer.echo(f"{name.replace('_', ' ') + ':':15}{shown}")
