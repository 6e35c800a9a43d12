"""``embedkit extract``."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._completion import complete_backbone, completing
from ._extraction import Stopping, changes
from ._output import ExitCode, count_of, plain, print_json, print_message
from ._panels import BACKBONE, INPUT, OUTPUT, PERFORMANCE, PREPROCESSING
from ._work_dir import WorkDirOption

if TYPE_CHECKING:
    from embedkit.decode.policy import DecodePolicy
    from embedkit.extraction.runner import ExtractResult

__all__ = ["EXAMPLES", "Decoder", "Dtype", "EngineName", "Pooling", "Precision", "command"]

EXAMPLES = examples(
    "embedkit extract photos/ -o photos.h5",
    "embedkit extract 'shards/{000..099}.tar' -o photos.h5 --device cuda:0",
    "embedkit extract photos.parquet -o photos.h5 --image-column image --label-column label",
    "embedkit extract photos/ -o photos.h5 --update",
)


class Pooling(StrEnum):
    """Pooling of the feature map."""

    AVG = "avg"
    GEM = "gem"
    MAX = "max"
    AVG_MAX = "avg+max"


class EngineName(StrEnum):
    """Inference engine."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TORCH = "torch"
    TORCH_COMPILED = "torch-compiled"


class Precision(StrEnum):
    """Arithmetic of the backbone."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class Decoder(StrEnum):
    """Decoder of ordinary JPEGs."""

    FAST = "fast"
    EXACT = "exact"


class Dtype(StrEnum):
    """Data type of stored embeddings."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


def command(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Images: folder, image, list (.txt), glob, tar (brace patterns allowed), zip, "
            "Parquet, URL, or - for a list on stdin. Several are embedded in the order given."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Store to write; may be a URL.")],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            help="Name from 'embedkit models', or timm:NAME.",
            autocompletion=complete_backbone,
        ),
    ] = "resnet50_swsl",
    device: Annotated[
        str,
        typer.Option(
            help="Device: auto (all GPUs, else the CPU), cpu, cuda:N, or several: cuda:0,cuda:1."
        ),
    ] = "auto",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the store and discard an interrupted run."),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Bring the store up to date: embed added, changed and failed images, drop removed "
            "ones.",
        ),
    ] = False,
    keep_removed: Annotated[
        bool,
        typer.Option(
            "--keep-removed",
            help="With --update: keep the rows of images that the source lacks now.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try the failed images of the store again, and change nothing else.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    check_content: Annotated[
        bool,
        typer.Option(
            "--check-content",
            help="If the store is complete: read all images again to find changed ones, instead of "
            "comparing sizes and times.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    max_read_errors: Annotated[
        int,
        typer.Option(
            help="Stop after this many images in a row that can't be read because their folder, "
            "share or server has gone away; 0 never stops.",
            rich_help_panel=INPUT,
        ),
    ] = 32,
    image_timeout: Annotated[
        float,
        typer.Option(
            help="Fail an image that takes longer than this to decode (seconds); 0 is no limit.",
            metavar="SECONDS",
            rich_help_panel=INPUT,
        ),
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the images, print the settings and stop.")
    ] = False,
    labels: Annotated[
        str,
        typer.Option(
            help="Labels: auto, none, folder (by folder name), or a CSV or Parquet file.",
            rich_help_panel=INPUT,
        ),
    ] = "auto",
    image_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the images in Parquet files and CSV lists.", rich_help_panel=INPUT
        ),
    ] = None,
    image_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that paths in Parquet files are relative to [default: where the first "
            "one is found].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the labels in Parquet files, CSV lists and label files.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    label_id_column: Annotated[
        str | None,
        typer.Option(help="Column of the ids or paths in label files.", rich_help_panel=INPUT),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Name that the ids begin with, to tell images of several sources apart.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    list_folders: Annotated[
        bool,
        typer.Option(
            "--list-folders",
            help="Open the folders that a list names; otherwise they fail.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            help="Entries of lists end in NUL (find -print0).",
            rich_help_panel=INPUT,
        ),
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            help="Largest image to decode (pixels); larger ones fail.", rich_help_panel=INPUT
        ),
    ] = 100_000_000,
    max_bytes: Annotated[
        int,
        typer.Option(help="Largest file to read (bytes); larger ones fail.", rich_help_panel=INPUT),
    ] = 256 * 2**20,
    weights: Annotated[
        str,
        typer.Option(
            help="Weights: auto, random, or a .safetensors or .pth file.",
            rich_help_panel=BACKBONE,
        ),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(help="Seed of random weights.", rich_help_panel=BACKBONE)
    ] = 0,
    pooling: Annotated[
        Pooling,
        typer.Option(
            help="Pooling of the feature map into one vector; avg: the backbone's own.",
            rich_help_panel=BACKBONE,
        ),
    ] = Pooling.AVG,
    gem_p: Annotated[
        float, typer.Option(help="Exponent of GeM pooling.", rich_help_panel=BACKBONE)
    ] = 3.0,
    layers: Annotated[
        str,
        typer.Option(
            help="Earlier stages to pool and concatenate, such as layer3,layer4.",
            rich_help_panel=BACKBONE,
        ),
    ] = "",
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="Average the embeddings of each image and its mirror image (takes twice as long).",
            rich_help_panel=BACKBONE,
        ),
    ] = False,
    input_size: Annotated[
        int | None,
        typer.Option(
            help="Side of the network's input (pixels) [default: the backbone's].",
            rich_help_panel=PREPROCESSING,
        ),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            help="Shorter side before cropping (pixels) [default: the backbone's].",
            rich_help_panel=PREPROCESSING,
        ),
    ] = None,
    interpolation: Annotated[
        str | None,
        typer.Option(
            help="Interpolation: bilinear, bicubic, lanczos or nearest [default: the backbone's].",
            autocompletion=completing("bilinear", "bicubic", "lanczos", "nearest"),
            rich_help_panel=PREPROCESSING,
        ),
    ] = None,
    crop_mode: Annotated[
        str | None,
        typer.Option(
            help="Crop: center or squash [default: the backbone's].",
            autocompletion=completing("center", "squash"),
            rich_help_panel=PREPROCESSING,
        ),
    ] = None,
    decoder: Annotated[
        Decoder,
        typer.Option(
            help="JPEG decoder: exact equals Pillow bit for bit; fast takes half the time and "
            "differs by up to 2 of 255 levels.",
            rich_help_panel=PREPROCESSING,
        ),
    ] = Decoder.FAST,
    background: Annotated[
        str,
        typer.Option(
            help="Color behind transparent pixels: R,G,B or #rrggbb.",
            rich_help_panel=PREPROCESSING,
        ),
    ] = "255,255,255",
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Inference engine; auto: OpenVINO on a CPU, PyTorch on CUDA.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = EngineName.AUTO,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Arithmetic; auto: bf16 where the device supports it and a trial on your images "
            "confirms its accuracy, else fp32. int8: OpenVINO only, less accurate.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = Precision.AUTO,
    batch_size: Annotated[
        str,
        typer.Option(
            help="Images per batch; auto chooses by device.",
            metavar="INTEGER",
            rich_help_panel=PERFORMANCE,
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of decoding threads or processes [default: 1 per core].",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    processes: Annotated[
        bool | None,
        typer.Option(
            "--processes/--threads",
            "--isolate",
            help="Decode in processes, so that an image that crashes or hangs a codec costs only "
            "itself, or in threads [default: processes for 10,000 images and more than 4 cores "
            "beside a GPU, or 32 without].",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Data type of stored embeddings.", rich_help_panel=OUTPUT)
    ] = Dtype.FLOAT16,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            help="Store embeddings of unit length (classification becomes unavailable).",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            help="Store a gray picture of each image, 32 x 32 pixels (1 KiB), which near-duplicate "
            "search compares without the image files.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    sharded: Annotated[
        bool,
        typer.Option(
            "--sharded",
            help="Write a folder of shards instead of one file.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    shard_rows: Annotated[
        int | None,
        typer.Option(help="Images per shard [default: 16384].", rich_help_panel=OUTPUT),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Embed only part I of N, such as 3/8, in one of several processes or machines. "
            "With --sharded all parts share one output, on a common disk or at a URL; else give "
            "its own, "
            "and join them by 'embedkit merge'.",
            metavar="I/N",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Embed on a Ray cluster: local (this machine), auto (the cluster that it belongs "
            "to), or an address. --workers is then the number of Ray workers.",
            metavar="ADDRESS",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    num_gpus: Annotated[
        float,
        typer.Option(
            help="GPUs of each Ray worker; may be a fraction.", rich_help_panel=PERFORMANCE
        ),
    ] = 0.0,
    decode_cpus: Annotated[
        int,
        typer.Option(
            help="With --ray: so many CPU cores of the cluster read and decode for all workers "
            "[default: each worker decodes on its own machine].",
            metavar="INTEGER",
            show_default=False,
            rich_help_panel=PERFORMANCE,
        ),
    ] = 0,
    work_dir: WorkDirOption = None,
    json: JsonOption = False,
) -> None:
    """Embed images into a store; resumes an interrupted run.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.backbones.weight_files import check_weights
    from embedkit.utils.urls import object_url

    there = object_url(output) is not None or output.exists()
    updates = retry_failed or (update and there)  # with the store's own backbone
    if all(map(_may_exist, source)) and not updates:  # else what is wrong with them is said first
        check_weights(backbone, weights)
    from embedkit.extraction.dry_run import preview
    from embedkit.extraction.extract import extract
    from embedkit.extraction.output import isolate_mark
    from embedkit.utils.watchdog import ended_when_stuck

    settings: dict[str, Any] = {
        "weights": weights,
        "seed": seed,
        "pooling": pooling.value,
        "gem_p": gem_p,
        "layers": tuple(filter(None, layers.split(","))),
        "flip": flip,
        "input_size": input_size,
        "preprocessing": _changed(resize, interpolation, crop_mode),
        "backbone": backbone,
        "engine": engine.value,
        "device": device,
        "precision": precision.value,
        "batch_size": _batch_size(batch_size),
        "dtype": dtype.value,
        "normalize": normalize,
        "decoder": decoder.value,
        "policy": _policy(background, max_pixels, max_bytes),
        "labels": labels,
        "image_column": image_column,
        "image_root": image_root,
        "label_column": label_column,
        "label_id_column": label_id_column,
        "prefix": prefix,
        "list_folders": list_folders,
        "null": null,
        "thumbnails": thumbnails,
    }
    changes: dict[str, Any] = {
        "check_content": check_content,
        "update": update,
        "keep_removed": keep_removed,
        "retry_failed": retry_failed,
        "part": part,
        "ray": ray,
        "num_gpus": num_gpus,
        "decode_cpus": decode_cpus,
        "sharded": sharded,
        "work_dir": work_dir,
    }
    if dry_run:
        _show_preview(asdict(preview(source, output, **settings, **changes)), json=json)
        return
    mark = isolate_mark(output, part=part, sharded=sharded, work_dir=work_dir)
    with ended_when_stuck(image_timeout, mark), Stopping() as stopping:
        result = extract(
            source,
            output,
            **settings,
            workers=workers,
            processes=processes,
            shard_rows=shard_rows,
            overwrite=overwrite,
            **changes,
            max_read_errors=max_read_errors,
            image_timeout=image_timeout,
            stop=stopping.event,
            progress=stopping.on_progress,
        )
    _report(result, json=json)


def _may_exist(source: str) -> bool:
    """Whether a source is there, or can't be told without listing it: a pattern, a URL, ``-``."""
    return source == "-" or bool({*"*?[{:"} & {*source}) or os.path.lexists(source)


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
        raise typer.BadParameter(f"--batch-size: expected a number or auto, got {text!r}") from exc


def _policy(background: str, max_pixels: int, max_bytes: int) -> DecodePolicy:
    from PIL import ImageColor

    from embedkit.decode.policy import DecodePolicy

    text = background if background.startswith("#") else f"rgb({background})"
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"--background: expected R,G,B or #rrggbb, got {background!r}"
        ) from exc
    return DecodePolicy((red, green, blue), max_pixels, max_bytes)


def _report(result: ExtractResult, *, json: bool) -> None:
    if json:
        print_json(asdict(result))
    elif result.complete:
        typer.echo(
            f"{plain(result.path)}: {changes(result)}{result.found:,} found = "
            f"{result.embedded:,} embedded + {result.failed:,} failed + "
            f"{result.skipped:,} skipped ({_effort(result)})"
        )
    if result.complete and result.waits_for:
        print_message(
            f"{result.path} is complete when these parts are done too: "
            f"{', '.join(result.waits_for)}"
        )
    if not result.complete:
        print_message(
            f"interrupted after {result.found:,} images, all kept; run the same command again "
            "to resume"
        )
        raise typer.Exit(ExitCode.INTERRUPTED)
    if result.unlabelled:
        print_message(f"{result.unlabelled:,} of {result.found:,} files have no label")
    if result.failed:
        images = count_of(result.failed, "image")
        when = " when the store is complete" if result.waits_for else ""
        print_message(
            f"{images} failed: run 'embedkit info --failures {result.path}' for the reasons{when}"
        )
        raise typer.Exit(ExitCode.SOME_FAILED)


def _effort(result: ExtractResult) -> str:
    if result.resumed >= result.found - result.skipped and not result.images_per_second:
        return "complete already"
    before = f", {result.resumed:,} of them before" if result.resumed else ""
    return f"{result.seconds:.1f} s, {result.images_per_second:.1f} images/s{before}"


def _show_preview(info: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(info)
        return
    for name, value in info.items():
        if value is None:
            continue
        shown = f"{value:,}" if type(value) is int else plain(value)
        typer.echo(f"{name.replace('_', ' ') + ':':15}{shown}")
