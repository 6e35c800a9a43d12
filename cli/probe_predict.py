"""``embedkit probe predict``: apply a trained probe to images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption
from ._embedding import StoreBatchOption, WeightsFileOption, WorkersOption
from ._output import ExitCode, count_of, plain, print_json, print_message
from ._panels import PERFORMANCE
from .extract import EngineName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.probe.predict import PredictedBatch
    from embedkit.types import ImageFailure

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "embedkit probe predict probe/ new/",
    "embedkit probe predict probe/ new.h5 -k 1 -o predictions.csv",
)

_SHOWN = 20  # failures


def command(
    probe: Annotated[Path, typer.Argument(help="Probe: a folder.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Store (.h5), image, folder, list, glob, archive or URL; several are allowed."
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Classes or labels per image.")] = 5,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a .csv, .jsonl or .parquet file, not a list."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing --output.")
    ] = False,
    weights: WeightsFileOption = "auto",
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Inference engine; auto: OpenVINO on a CPU, PyTorch on CUDA.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = EngineName.AUTO,
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    batch_size: StoreBatchOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Predict classes, labels or numbers of new images with a trained probe.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.probe.predict import predict
    from embedkit.probe.predictions_file import write_predictions
    from embedkit.utils.table_writers import check_table

    if output is not None:
        check_table(output, "predictions", overwrite=overwrite)
    batches = predict(
        probe,
        images,
        k,
        weights=weights,
        engine=engine.value,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    result: dict[str, Any]
    if output is not None:
        images_done, failures = write_predictions(batches, output, overwrite=overwrite)
        result = {"output": str(output), "images": images_done}
        if not json:
            typer.echo(f"{plain(output)}: predictions of {count_of(images_done, 'image')}")
    else:
        rows, failures = _print_predictions(batches, json=json)
        result = {"predictions": rows}
    if json:
        lost = [{"id": f.id, "reason": f.reason} for f in failures]
        print_json({"probe": str(probe), **result, "failures": lost})
    for failure in failures[:_SHOWN]:
        print_message(f"{plain(failure.id)}: {failure.reason}")
    if len(failures) > _SHOWN:
        print_message(f"{len(failures) - _SHOWN:,} more failed")
    if failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _print_predictions(
    batches: Iterable[PredictedBatch], *, json: bool
) -> tuple[list[dict[str, Any]], list[ImageFailure]]:
    """Prints predictions as they come, or gives them as JSON objects; and what failed."""
    from embedkit.probe.metrics import digits

    rows: list[dict[str, Any]] = []
    failures: list[ImageFailure] = []
    for batch in batches:
        failures += batch.failures
        for one, names, scores in zip(batch.ids, batch.names, batch.scores, strict=True):
            said = [(name, float(str(score))) for name, score in zip(names, scores, strict=True)]
            if json:
                predictions = [{"name": name, "score": score} for name, score in said]
                rows.append({"id": one, "predictions": predictions})
            else:
                shown = ", ".join(f"{plain(name)} {digits(score)}" for name, score in said)
                typer.echo(f"{plain(one)}: {shown}")
    return rows, failures
