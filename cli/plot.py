"""``embedkit plot``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from ._command import JsonOption, examples
from ._images import ImagesOption
from ._output import count_of, plain, print_json
from ._panels import OUTPUT

__all__ = ["EXAMPLES", "Color", "Method", "command"]

EXAMPLES = examples(
    "embedkit plot photos.h5 -o map.html",
    "embedkit plot photos.h5 -o map.png --method pca --sample 5000",
    "embedkit plot photos.h5 --atlas",
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


_NO_OUTPUT = "--atlas writes no file; `embedkit export --to atlas` does"


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Map to write: interactive .html, or .png."),
    ] = None,
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
    atlas: Annotated[
        bool,
        typer.Option(
            "--atlas",
            help="Show the store in embedding-atlas instead, on this machine, until Ctrl-C.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing --output.", rich_help_panel=OUTPUT),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Draw a store as a 2-D map: similar images lie close together."""
    if (output is None) != atlas:
        reason = "a map needs --output FILE" if output is None else _NO_OUTPUT
        raise typer.BadParameter(reason, param_hint="--output")
    if output is None:
        _show_atlas(
            store, method=method.value, sample=sample, pictures=pictures, images=images, seed=seed,
            json=json,
        )  # fmt: skip
        return
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


def _show_atlas(
    store: Path,
    *,
    method: Literal["auto", "umap", "pca"],
    sample: int,
    pictures: int,
    images: list[Path] | None,
    seed: int,
    json: bool,
) -> None:
    """Writes a temporary file for embedding-atlas, and shows it until it is interrupted."""
    from embedkit.exporters.atlas import write_atlas
    from embedkit.integrations.atlas import AtlasServer, check_atlas

    check_atlas()
    with TemporaryDirectory(prefix="embedkit-") as folder:
        file = Path(folder) / f"{store.stem}.parquet"
        write_atlas(
            store, file, method=method, sample=sample, pictures=pictures, images=images or (),
            seed=seed,
        )  # fmt: skip
        with AtlasServer(file) as server:
            if json:
                print_json({"url": server.url}, indent=None)
            else:
                typer.echo(f"{server.url}: open it in a browser; Ctrl-C ends it")
            with suppress(KeyboardInterrupt):
                server.wait()
