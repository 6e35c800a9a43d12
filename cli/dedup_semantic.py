"""``embedkit dedup semantic``."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption
from ._filters import FilterOption
from ._output import check_outputs, count_of, plain, print_json
from ._panels import OUTPUT

__all__ = ["COMMANDS", "KeptOf"]


class KeptOf(StrEnum):
    """Which of the images that are alike is kept."""

    FARTHEST = "farthest"
    NEAREST = "nearest"


def _semantic(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="List to write: .csv, .jsonl or .parquet.")
    ],
    keep_fraction: Annotated[
        float | None, typer.Option(help="Share of the images to keep, such as 0.7.")
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(
            help="Instead of --keep-fraction: remove an image whose cosine to an earlier one is "
            "above 1 - EPS."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="Number of clusters [default: one per 1,000 images]."),
    ] = None,
    keep: Annotated[
        KeptOf,
        typer.Option(help="Which of the images that are alike to keep, by the cluster's center."),
    ] = KeptOf.FARTHEST,
    filter: FilterOption = None,  # noqa: A002
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing --output.", rich_help_panel=OUTPUT),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Select images for training by SemDeDup: thin out where images are alike.

    Removed images are alike to kept ones, not duplicates of them. Nothing is deleted.
    """
    from embedkit.dedup.semantic.results_file import write_semantic
    from embedkit.dedup.semantic.semdedup import semantic_dedup

    check_outputs(output, what="selections", overwrite=overwrite)
    found = semantic_dedup(
        store,
        keep_fraction=keep_fraction,
        eps=eps,
        k=k,
        keep=keep.value,
        filters=filter or (),
        seed=seed,
    )
    write_semantic(found, output, overwrite=overwrite)
    images, kept = len(found.rows), found.num_kept
    if json:
        print_json(
            {
                "store": str(store),
                "images": images,
                "kept": kept,
                "removed": images - kept,
                "eps": found.eps,
                "clusters": found.num_clusters,
                "keep": keep.value,
                "output": str(output),
            }
        )
        return
    typer.echo(
        f"{kept:,} of {count_of(images, 'image')} kept, {images - kept:,} alike to others; "
        f"epsilon {found.eps:.4g}, {count_of(found.num_clusters, 'cluster')}"
    )
    typer.echo(f"{plain(output)}: written; nothing was deleted")


COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "semantic": (
        _semantic,
        (
            "embedkit dedup semantic photos.h5 --keep-fraction 0.7 -o kept.parquet",
            "embedkit dedup semantic photos.h5 --eps 0.05 -k 500 --keep nearest -o kept.csv",
        ),
    ),
}
