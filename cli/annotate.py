"""``embedkit annotate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._command import JsonOption, examples
from ._output import count_of, plain, print_json

if TYPE_CHECKING:
    from embedkit.store.annotate import AnnotationSummary

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit annotate photos.h5 --from table.parquet",
    "embedkit annotate photos.h5 --from table.csv --key file --columns year,photographer",
    "embedkit annotate photos.h5 --remove year",
)


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    table: Annotated[
        str | None,
        typer.Option("--from", help="CSV or Parquet file with one row per image.", metavar="FILE"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column of the file with ids or paths [default: found].")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns to put in, with commas between them [default: all].", metavar="NAMES"
        ),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option(
            help="Columns to remove from the store, with commas between them.", metavar="NAMES"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace columns that the store has already.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put columns of a table into a store, without embedding again.

    They hold texts, integers, floats or booleans, and can be used in --filter. The store is
    replaced at once; indexes that were built from it stay valid.
    """
    from embedkit.store.annotate import annotate

    done = annotate(
        store,
        table,
        key=key,
        columns=_names(columns),
        remove=_names(remove) or (),
        overwrite=overwrite,
    )
    if json:
        print_json({**asdict(done), "path": str(done.path)})
    else:
        _print(done, table)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for one in text.split(",") if (name := one.strip())]


def _print(done: AnnotationSummary, table: str | None) -> None:
    path = plain(done.path)
    if done.added:
        added = ", ".join(f"{plain(name)} ({kind})" for name, kind in done.added.items())
        typer.echo(
            f"{path}: {done.matched:,} of {count_of(done.images, 'image')} annotated with {added}"
        )
    if done.unmatched:
        rows = count_of(done.unmatched, "row")
        typer.echo(f"{plain(table)}: {rows} of no image in the store")
    if done.removed:
        typer.echo(f"{path}: removed {', '.join(map(plain, done.removed))}")
