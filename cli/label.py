"""``embedkit label``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._output import count_of, plain, print_json

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit label photos.h5 --labels folder",
    "embedkit label photos.h5 --labels labels.csv",
    "embedkit label photos.h5 --labels table.parquet --label-column caption",
)


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    labels: Annotated[
        str,
        typer.Option(
            help="Labels: folder (by folder name), none (remove them), or a CSV or Parquet file."
        ),
    ],
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the file that becomes the labels [default: label]."),
    ] = None,
    label_id_column: Annotated[
        str | None, typer.Option(help="Column of the file with ids or paths [default: found].")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put labels into a store, without embedding again.

    The store is replaced at once; indexes that were built from it stay valid.
    """
    from embedkit.store.label import label

    done = label(store, labels, label_column=label_column, label_id_column=label_id_column)
    if json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    left = done.images - done.labeled
    typer.echo(
        f"{plain(done.path)}: {done.labeled:,} of {count_of(done.images, 'image')} labeled, "
        f"{count_of(done.classes, 'different label')}" + (f"; {left:,} without" if left else "")
    )
