"""``embedkit cluster``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._filters import FilterOption
from ._images import ImagesOption
from ._numbers import number_or_auto
from ._output import check_outputs, count_of, plain, print_json, print_table
from ._panels import OUTPUT
from ._ray import RayOption, RayWorkersOption

if TYPE_CHECKING:
    from embedkit.analysis.clustering.cluster import Clusters

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit cluster photos.h5 -k auto",
    "embedkit cluster photos.h5 -k 100 --write",
    "embedkit cluster photos.h5 -k 100 -o clusters.parquet --html clusters.html",
    "embedkit cluster photos/ -k 1000 --write --ray auto",
)

_SHOWN = 20  # clusters


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    k: Annotated[
        str,
        typer.Option(
            "-k", help="Number of clusters, or auto: the number that separates best (2 to 500)."
        ),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write a .csv, .jsonl or .parquet file: one line per image."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with examples of each cluster.")
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Put columns cluster and cluster_distance into the store, for --filter."
        ),
    ] = False,
    filter: FilterOption = None,  # noqa: A002
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    rounds: Annotated[
        int,
        typer.Option(min=0, help="Passes over all rows after the training on a sample."),
    ] = 5,
    examples: Annotated[
        int, typer.Option(min=1, help="Images per cluster on the page.", rich_help_panel=OUTPUT)
    ] = 8,
    images: ImagesOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --html, and the columns of --write.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    ray: RayOption = None,
    workers: RayWorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Group similar images into clusters, without labels.

    Spherical k-means on the embeddings, in bounded memory. Clusters are named by the commonest
    classes of the stored classifier.
    """
    from embedkit.analysis.clustering.cluster import cluster
    from embedkit.analysis.clustering.html_page import write_clusters_page
    from embedkit.analysis.clustering.results_file import write_clusters

    check_outputs(output, html, what="clusters", overwrite=overwrite)
    found = cluster(
        store,
        number_or_auto(k, "-k"),
        filters=filter or (),
        seed=seed,
        rounds=rounds,
        write=write,
        overwrite=overwrite,
        ray=ray,
        workers=workers,
    )
    if output is not None:
        write_clusters(found, output, overwrite=overwrite)
    if html is not None:
        write_clusters_page(found, html, examples=examples, images=images or ())
    if json:
        print_json(_as_json(found, output, html))
        return
    _print(found)
    if write:
        typer.echo(f"{plain(found.path)}: columns cluster and cluster_distance written")
    for path in (one for one in (output, html) if one is not None):
        typer.echo(f"{plain(path)}: written")


def _rows(found: Clusters) -> list[dict[str, Any]]:
    means = found.mean_distances
    return [
        {
            "cluster": number,
            "images": int(found.sizes[number]),
            "mean_distance": float(means[number]),
            "name": name,
            "share": float(found.shares[number]),
        }
        for number, name in enumerate(found.names)
    ]


def _as_json(found: Clusters, output: Path | None, html: Path | None) -> dict[str, Any]:
    return {
        "store": str(found.path),
        "images": len(found.rows),
        "k": len(found.sizes),
        "clusters": _rows(found),
        "output": output and str(output),
        "html": html and str(html),
    }


def _print(found: Clusters) -> None:
    clusters = count_of(len(found.sizes), "cluster")
    typer.echo(f"{clusters} of {count_of(len(found.rows), 'image')}")
    rows = [
        (
            row["cluster"],
            row["images"],
            f"{row['mean_distance']:.3f}",
            f"{row['share']:.2f}" if row["name"] else None,
            row["name"] or None,
        )
        for row in _rows(found)[:_SHOWN]
    ]
    print_table(("cluster", "images", "mean distance", "share", "classes"), rows)
    if len(found.sizes) > _SHOWN:
        typer.echo(f"and {count_of(len(found.sizes) - _SHOWN, 'smaller cluster')}")
