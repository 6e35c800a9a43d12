"""The options of commands that embed images, and accept stores too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._completion import complete_backbone
from ._output import plain, print_message
from ._panels import BACKBONE, PERFORMANCE
from .extract import EngineName

if TYPE_CHECKING:
    from embedkit.extraction.inputs import StoredInputs

__all__ = [
    "BackboneOption",
    "BatchOption",
    "DeviceOption",
    "EngineName",
    "EngineOption",
    "StoreBatchOption",
    "WeightsFileOption",
    "WeightsOption",
    "WorkersOption",
    "open_inputs",
    "print_failures",
]

_SHOWN = 20  # failures

BackboneOption = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        help="For images: name from 'embedkit models', or timm:NAME.",
        autocompletion=complete_backbone,
        rich_help_panel=BACKBONE,
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        help="For images: auto, random, or a .safetensors or .pth file.",
        rich_help_panel=BACKBONE,
    ),
]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        help="Inference engine for images; auto: OpenVINO on a CPU, PyTorch on CUDA.",
        rich_help_panel=PERFORMANCE,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(help="Device for images: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE),
]
BatchOption = Annotated[
    int | None,
    typer.Option(help="Images per batch [default: chosen by device].", rich_help_panel=PERFORMANCE),
]
StoreBatchOption = Annotated[
    int | None,
    typer.Option(
        help="Images per batch [default: as the store was embedded, on a CPU].",
        rich_help_panel=PERFORMANCE,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Number of threads [default: 1 per core].", rich_help_panel=PERFORMANCE),
]
WeightsFileOption = Annotated[
    str,
    typer.Option(
        help="Weights: auto, or the file that the stored images were embedded with.",
        rich_help_panel=BACKBONE,
    ),
]


@contextmanager
def open_inputs(
    inputs: Sequence[str],
    *,
    backbone: str,
    weights: str,
    engine: EngineName,
    device: str,
    batch_size: int | None,
    workers: int | None,
    keep: Path | None = None,
) -> Iterator[StoredInputs]:
    """Yields a store for every input; images are embedded first, with progress."""
    from embedkit.extraction.inputs import as_stores

    with as_stores(
        inputs,
        keep=keep,
        backbone=backbone,
        weights=weights,
        engine=engine.value,
        device=device,
        batch_size=batch_size,
        workers=workers,
    ) as stored:
        yield stored


def print_failures(stored: StoredInputs) -> None:
    """Prints the images that could not be embedded to stderr."""
    for failure in stored.failures[:_SHOWN]:
        print_message(f"{plain(failure.id)}: {failure.reason}")
    if len(stored.failures) > _SHOWN:
        print_message(f"{len(stored.failures) - _SHOWN:,} more failed")
