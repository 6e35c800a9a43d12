"""``embedkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._output import plain, print_json

__all__ = ["Format", "command"]


class Format(StrEnum):
    """What a store can be exported to."""

    NPY = "npy"
    PARQUET = "parquet"
    TORCH = "torch"
    H5 = "h5"
    LANCEDB = "lancedb"


def command(
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file or folder to write.")],
    to: Annotated[
        Format,
        typer.Option(
            help="parquet: one file; npy: a folder as clip-retrieval lays it out; "
            "torch: a folder for embedkit.torch.StoreDataset; h5: one store; "
            "lancedb: a folder, the database."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what exists at the output.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a store as Parquet, npy + Parquet, for PyTorch, as LanceDB, or as one HDF5 file."""
    from embedkit.exporters.export import export

    export(store, output, to=to.value, overwrite=overwrite)
    if json:
        print_json({"store": str(store), "output": str(output), "to": to.value})
    else:
        typer.echo(f"{plain(output)}: written as {to.value}")
