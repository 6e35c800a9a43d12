"""The options of commands that take images beside stores, and embed these first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._output import ProgressLine, plain, tell
from .extract import EngineName

if TYPE_CHECKING:
    from embedkit.extraction.inputs import StoredInputs

__all__ = [
    "BackboneOption",
    "BatchOption",
    "DeviceOption",
    "EngineName",
    "EngineOption",
    "WeightsOption",
    "WorkersOption",
    "open_inputs",
    "tell_failures",
]

_TOLD = 20  # failures

BackboneOption = Annotated[
    str, typer.Option("--backbone", "-b", help="For images: a name of 'embedkit models'.")
]
WeightsOption = Annotated[
    str, typer.Option(help="For images: auto, a .safetensors or .pth file, or random.")
]
EngineOption = Annotated[
    EngineName, typer.Option(help="For images; auto: OpenVINO on a CPU, PyTorch on CUDA.")
]
DeviceOption = Annotated[str, typer.Option(help="For images: auto, cpu, cuda or cuda:N.")]
BatchOption = Annotated[
    int | None, typer.Option(help="For images: how many a batch; the default is the device's.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="For images: threads; the default is one a core.")
]


@contextmanager
def open_inputs(
    context: typer.Context,
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
    """Stores of all that was given, images embedded, with progress and failures told."""
    from embedkit.extraction.inputs import as_stores

    line = ProgressLine(quiet=context.obj["quiet"])
    with (
        line,
        as_stores(
            inputs,
            keep=keep,
            backbone=backbone,
            weights=weights,
            engine=engine.value,
            device=device,
            batch_size=batch_size,
            workers=workers,
            on_progress=line.update,
            on_download=line.download,
        ) as stored,
    ):
        yield stored


def tell_failures(stored: StoredInputs) -> None:
    """Names the images that could not be embedded, on stderr."""
    for failure in stored.failures[:_TOLD]:
        tell(f"{plain(failure.id)}: {failure.reason}")
    if len(stored.failures) > _TOLD:
        tell(f"{len(stored.failures) - _TOLD:,} more failed")
