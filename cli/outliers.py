"""``embedkit outliers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._command import JsonOption, examples
from ._images import ImagesOption
from ._output import check_outputs, count_of, plain, print_json, print_table
from ._panels import OUTPUT, SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.analysis.outliers import Outlier, Outliers

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit outliers photos.h5 --html outliers.html",
    "embedkit outliers photos.h5 -o outliers.csv --min-deviations 4",
)


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a .csv, .jsonl or .parquet file, not a table."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with thumbnails, not a table.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Images to list per kind, at most.")] = 50,
    min_deviations: Annotated[
        float,
        typer.Option(
            help="Isolation of an off-topic image, at least (robust standard deviations)."
        ),
    ] = 3.0,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbors to compare each image with.")] = 10,
    index: Annotated[
        Path | None,
        typer.Option(
            help="Index of the same images: faster for large stores, but approximate.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    images: ImagesOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --html.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Find off-topic images, and labels that contradict the nearest neighbors."""
    from embedkit.analysis.outliers import find_outliers, write_outliers, write_outliers_page

    check_outputs(output, html, what="outliers", overwrite=overwrite)
    found = find_outliers(store, k=k, top=top, min_deviations=min_deviations, index=index)
    if output is not None:
        write_outliers(found, output, overwrite=overwrite)
    if html is not None:
        write_outliers_page(found, html, images=images or ())
    if json:
        _print_json(found)
    elif output is None and html is None:
        _print(found)
    else:
        for path in filter(None, (output, html)):
            typer.echo(
                f"{plain(path)}: {len(found.off_topic):,} off-topic, "
                f"{count_of(len(found.labels), 'doubtful label')}, of {found.images:,} images"
            )


def _print_json(found: Outliers) -> None:
    def rows_of(some: Sequence[Outlier]) -> list[dict[str, object]]:
        keys = ("id", "row", "score", "label", "suggested")
        return [{key: getattr(one, key) for key in keys} for one in some]

    print_json(
        {
            "store": str(found.path),
            "images": found.images,
            "k": found.k,
            "recall": found.recall,
            "off_topic": rows_of(found.off_topic),
            "labels": rows_of(found.labels),
        }
    )


def _print(found: Outliers) -> None:
    if found.recall is not None:
        typer.echo(f"the index finds {found.recall:.1%} of the neighbors")
    typer.echo(f"off-topic: {len(found.off_topic):,} of {count_of(found.images, 'image')}")
    if found.off_topic:
        rows = [(f"{one.score:.2f}", one.label or None, one.id) for one in found.off_topic]
        print_table(("deviations", "label", "id"), rows)
    typer.echo(f"\ndoubtful labels: {len(found.labels):,}")
    if found.labels:
        wrong = [(f"{one.score:.2f}", one.label, one.suggested, one.id) for one in found.labels]
        print_table(("score", "label", "suggested", "id"), wrong)
