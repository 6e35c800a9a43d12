"""``embedkit quality``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._command import JsonOption, examples
from ._output import count_of, plain, print_json, print_table
from ._panels import INPUT, OUTPUT
from ._ray import RayOption, RayWorkersOption

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit quality photos.h5 -o quality/",
    "embedkit quality old.h5 --images photos/ --write -o quality/",
    "embedkit quality old/ --images /data/photos --write --ray auto",
    "embedkit quality photos.h5 -o quality/ --duplicates duplicates/ --blurry 0.05",
)

_PANEL = "Thresholds"


def _limit(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_PANEL)


def command(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write: tables, summary, HTML page."),
    ] = None,
    dark: Annotated[float, _limit("Mean + deviation of luminance below this (0 to 255).")] = 64.0,
    bright: Annotated[
        float, _limit("Mean - deviation of luminance above this (0 to 255).")
    ] = 200.0,
    blurry: Annotated[float, _limit("Sharpness by the variance of luminance below this.")] = 0.02,
    low_information: Annotated[float, _limit("Entropy below this (bits, 0 to 8).")] = 3.0,
    gray: Annotated[
        float, _limit("Share of gray pixels at least this, where most images have color.")
    ] = 0.98,
    odd_size: Annotated[
        float, _limit("Factor between the number of pixels and the median at least this.")
    ] = 10.0,
    odd_aspect: Annotated[float, _limit("Longer by shorter side at least this.")] = 3.0,
    duplicates: Annotated[
        Path | None,
        typer.Option(
            help="Folder of 'dedup find': list its near-duplicates too.", rich_help_panel=INPUT
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder (or other source) of the images, for thumbnails and for stores without "
            "measures; repeatable [default: the paths in the ids].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Put measures that had to be made into the store, for --filter and later runs.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing --output.", rich_help_panel=OUTPUT),
    ] = False,
    ray: RayOption = None,
    workers: RayWorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Find dark, bright, blurry, empty, odd and duplicate images, and failed files.

    The images are measured while they are extracted; older stores are measured from the images.
    """
    from embedkit.analysis.quality import (
        QualityThresholds,
        check_quality_output,
        find_quality_issues,
        summary_of,
        write_quality,
    )

    if output is not None:
        check_quality_output(output, overwrite=overwrite)
    limits = QualityThresholds(dark, bright, blurry, low_information, gray, odd_size, odd_aspect)
    report = find_quality_issues(
        store,
        thresholds=limits,
        images=images or (),
        duplicates=duplicates,
        write=write,
        ray=ray,
        workers=workers,
    )
    if output is not None:
        write_quality(report, output, overwrite=overwrite, images=images or ())
    summary = summary_of(report)
    if json:
        print_json({**summary, "output": output and str(output)})
        return
    known = "" if report.measured == report.images else f", {report.measured:,} measured"
    typer.echo(
        f"{summary['images_with_issues']:,} of {count_of(report.images, 'image')} have an issue"
        f"{known}"
    )
    worst = {issue.kind: issue for issue in reversed(report.issues)}
    rows = [
        (kind, count, worst[kind].id if kind in worst else None)
        for kind, count in report.counts.items()
    ]
    print_table(("issue", "images", "worst"), rows)
    if output is not None:
        typer.echo(f"{plain(output)}: written")
