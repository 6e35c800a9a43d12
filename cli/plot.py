"""``embedkit plot``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._images import ImagesOption
from ._output import count_of, plain, print_json

__all__ = ["Color", "Method", "command"]


class Method(StrEnum):
    """How embeddings are placed in the plane."""

    AUTO = "auto"
    UMAP = "umap"
    PCA = "pca"


class Color(StrEnum):
    """What the points are coloured by."""

    AUTO = "auto"
    LABEL = "label"
    CLASS = "class"
    NONE = "none"


def command(
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The map: .html to move about in, or .png.")
    ],
    method: Annotated[
        Method, typer.Option(help="auto: UMAP if it is installed, else PCA.")
    ] = Method.AUTO,
    color: Annotated[
        Color, typer.Option(help="auto: by label if there are labels, else by likeliest class.")
    ] = Color.AUTO,
    sample: Annotated[
        int, typer.Option(min=1, help="Draw at most so many images, chosen at random.")
    ] = 20_000,
    pictures: Annotated[
        int, typer.Option(min=0, help="HTML: at most so many thumbnails, of images at random.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
    images: ImagesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw a store as a map on which images that resemble each other lie near to each other."""
    from embedkit.analysis.embedding_map import plot

    done = plot(
        store,
        output,
        method=method.value,
        color=color.value,
        sample=sample,
        pictures=pictures,
        seed=seed,
        images=images or (),
        overwrite=overwrite,
    )
    if json:
        print_json(asdict(done))
        return
    left = f", {done.left_out:,} left out" if done.left_out else ""
    typer.echo(f"{plain(done.path)}: {count_of(done.images, 'image')} by {done.method}{left}")
