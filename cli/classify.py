"""``embedkit classify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._embedding import (
    BackboneOption,
    BatchOption,
    DeviceOption,
    EngineName,
    EngineOption,
    WeightsOption,
    WorkersOption,
    open_inputs,
    print_failures,
)
from ._output import ExitCode, count_of, plain, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.extraction.inputs import StoredInputs

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit classify photos.h5 -o classes.csv",
    "embedkit classify cat.jpg dog.jpg -k 3",
)


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Store (.h5; its images are not read again), image, folder, list, glob, archive "
            "or URL; several are allowed.",
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Classes per image.")] = 5,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a .csv, .jsonl or .parquet file, not a table."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing --output.")
    ] = False,
    backbone: BackboneOption = "resnet50_swsl",
    weights: WeightsOption = "auto",
    engine: EngineOption = EngineName.AUTO,
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Print the most likely classes per image, by the classifier of the backbone.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    if output is not None:
        _check_output(output, overwrite=overwrite)
    with open_inputs(
        inputs,
        backbone=backbone,
        weights=weights,
        engine=engine,
        device=device,
        batch_size=batch_size,
        workers=workers,
    ) as stored:
        if output is not None:
            result = _write(stored, output, k, overwrite=overwrite, json=json)
        elif json:
            result = {"images": list(_images(stored, k))}
        else:
            result = {}
            _print(stored, k)
    if json:
        failures = [{"id": one.id, "reason": one.reason} for one in stored.failures]
        print_json({"k": k, **result, "failures": failures})
    print_failures(stored)
    if stored.failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Refuses before the images are embedded, which may take long."""
    from embedkit.errors import StoreError
    from embedkit.utils.table_writers import check_suffix

    check_suffix(output, "classes")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; overwrite=True replaces it")


def _write(
    stored: StoredInputs, output: Path, k: int, *, overwrite: bool, json: bool
) -> dict[str, Any]:
    from embedkit.analysis.classification import classify_to_file

    images = classify_to_file(stored.stores, output, k, overwrite=overwrite)
    if not json:
        typer.echo(f"{plain(output)}: classes of {count_of(images, 'image')}")
    return {"path": str(output), "classified": images}


def _images(stored: StoredInputs, k: int) -> Iterator[dict[str, Any]]:
    from embedkit.analysis.classification import classify

    for store in stored.stores:
        for batch in classify(store, k):
            for row, name in enumerate(batch.ids):
                columns = (
                    batch.classes[row].tolist(),
                    batch.class_ids[row],
                    batch.class_names[row],
                    (float(str(share)) for share in batch.probabilities[row]),
                )
                keys = ("class", "class_id", "class_name", "probability")
                best = [
                    {"rank": rank, **dict(zip(keys, one, strict=True))}
                    for rank, one in enumerate(zip(*columns, strict=True), 1)
                ]
                yield {"id": name, "classes": best}


def _print(stored: StoredInputs, k: int) -> None:
    for number, image in enumerate(_images(stored, k)):
        typer.echo("\n" if number else "", nl=False)
        typer.echo(plain(image["id"]))
        rows = [
            (one["rank"], f"{one['probability']:.4f}", one["class_id"] or None, one["class_name"])
            for one in image["classes"]
        ]
        print_table(("rank", "probability", "id", "class"), rows)
