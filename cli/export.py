"""``embedkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._output import plain, print_json

__all__ = ["EXAMPLES", "Format", "command"]

EXAMPLES = examples(
    "embedkit export photos.h5 -o photos.parquet --to parquet",
    "embedkit export photos.h5 -o photos.lance --to lancedb",
    "embedkit export photos.h5 -o atlas.parquet --to atlas",
)


class Format(StrEnum):
    """Formats of an export."""

    NPY = "npy"
    PARQUET = "parquet"
    H5 = "h5"
    LANCEDB = "lancedb"
    ATLAS = "atlas"


def _format(text: str) -> Format:
    if text == "torch":
        raise typer.BadParameter("embedkit.torch.StoreDataset reads the store itself")
    try:
        return Format(text)
    except ValueError:
        known = ", ".join(Format)
        raise typer.BadParameter(f"{text!r} is not one of {known}") from None


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")],
    to: Annotated[
        Format,
        typer.Option(
            parser=_format,
            help="Format. parquet: one file; npy: a folder in the layout of clip-retrieval; "
            "h5: one store file; lancedb: a database folder; atlas: a Parquet "
            "file for embedding-atlas.",
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Convert a store to Parquet, npy, LanceDB, HDF5 or embedding-atlas."""
    from embedkit.exporters.export import export

    export(store, output, to=to.value, overwrite=overwrite)
    if json:
        print_json({"store": str(store), "output": str(output), "to": to.value})
    else:
        typer.echo(f"{plain(output)}: written as {to.value}")
