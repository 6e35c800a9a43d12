"""``embedkit outliers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._images import ImagesOption
from ._output import count_of, plain, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.analysis.outliers import Outlier, Outliers

__all__ = ["command"]


def command(
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    k: Annotated[
        int, typer.Option("-k", min=1, help="Neighbours that each image is held to.")
    ] = 10,
    top: Annotated[int, typer.Option(min=1, help="List at most so many of each kind.")] = 50,
    min_deviations: Annotated[
        float, typer.Option(help="Off-topic: how isolated, in robust standard deviations.")
    ] = 3.0,
    index: Annotated[
        Path | None,
        typer.Option(help="Ask an index of these images: not exact, but quick for large stores."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write .csv, .jsonl or .parquet in place of a table."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with thumbnails in place of a table.")
    ] = None,
    images: ImagesOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --output and --html.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find off-topic images, and labels that an image's neighbours contradict."""
    from embedkit.analysis.outliers import find_outliers, write_outliers, write_outliers_page

    _check_outputs(output, html, overwrite=overwrite)
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


def _check_outputs(output: Path | None, html: Path | None, *, overwrite: bool) -> None:
    from embedkit.errors import StoreError
    from embedkit.utils.table_writers import check_suffix

    if output is not None:
        check_suffix(output, "outliers")
    for path in filter(None, (output, html)):
        if path.exists() and not overwrite:
            raise StoreError(f"{path}: exists already; --overwrite replaces it")


def _print_json(found: Outliers) -> None:
    def told(some: Sequence[Outlier]) -> list[dict[str, object]]:
        keys = ("id", "row", "score", "label", "suggested")
        return [{key: getattr(one, key) for key in keys} for one in some]

    print_json(
        {
            "store": str(found.path),
            "images": found.images,
            "k": found.k,
            "recall": found.recall,
            "off_topic": told(found.off_topic),
            "labels": told(found.labels),
        }
    )


def _print(found: Outliers) -> None:
    if found.recall is not None:
        typer.echo(f"the index finds {found.recall:.1%} of the neighbours")
    typer.echo(f"off-topic: {len(found.off_topic):,} of {count_of(found.images, 'image')}")
    if found.off_topic:
        rows = [(f"{one.score:.2f}", one.label or None, one.id) for one in found.off_topic]
        print_table(("deviations", "label", "id"), rows)
    typer.echo(f"\ndoubtful labels: {len(found.labels):,}")
    if found.labels:
        wrong = [(f"{one.score:.2f}", one.label, one.suggested, one.id) for one in found.labels]
        print_table(("score", "label", "suggested", "id"), wrong)
