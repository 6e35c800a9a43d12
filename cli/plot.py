"""``embedkit plot``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._images import ImagesOption
from ._output import count_of, plain, print_json
from ._panels import OUTPUT

__all__ = ["EXAMPLES", "Color", "Method", "command"]

EXAMPLES = examples(
    "embedkit plot photos.h5 -o map.html",
    "embedkit plot photos.h5 -o map.png --method pca --sample 5000",
)


class Method(StrEnum):
    """Projection to two dimensions."""

    AUTO = "auto"
    UMAP = "umap"
    PCA = "pca"


class Color(StrEnum):
    """Colors of the points."""

    AUTO = "auto"
    LABEL = "label"
    CLASS = "class"
    NONE = "none"


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Map to write: interactive .html, or .png.")
    ],
    method: Annotated[
        Method, typer.Option(help="Projection; auto: UMAP if it is installed, else PCA.")
    ] = Method.AUTO,
    color: Annotated[
        Color, typer.Option(help="Colors; auto: by label if there are labels, else by class.")
    ] = Color.AUTO,
    sample: Annotated[
        int,
        typer.Option(min=1, help="Images to learn the projection on, at most; all are drawn."),
    ] = 20_000,
    pictures: Annotated[
        int, typer.Option(min=0, help="Thumbnails in the HTML page, at most.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    images: ImagesOption = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing --output.", rich_help_panel=OUTPUT),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Draw a store as a 2-D map: similar images lie close together."""
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
    learned = f", learned on {done.learned:,}" if done.learned < done.images else ""
    typer.echo(f"{plain(done.path)}: {count_of(done.images, 'image')} by {done.method}{learned}")
