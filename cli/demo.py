"""``embedkit demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._output import ExitCode, count_of, plain, print_json, print_message, print_table

if TYPE_CHECKING:
    from embedkit.demo import DemoResult

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit demo",
    "embedkit demo --images photos/ -o my-demo/",
)

_SHOWN = 8


def command(
    context: typer.Context,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of your own images (up to 2,000; read-only) [default: sample photographs]."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "embedkit-demo"
    ),
    json: JsonOption = False,
) -> None:
    """Run embedding, search, classification and deduplication on sample images, offline."""
    from embedkit.demo import run_demo

    def on_step(step: str) -> None:
        if not context.obj.quiet:
            print_message(step)

    result = run_demo(output, images, on_step)
    if json:
        print_json(_as_json(result))
    else:
        _print_summary(result)
    if result.unexpected_failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _print_summary(result: DemoResult) -> None:
    _print_counts(result)
    _print_classes(result)
    _print_searches(result)
    _print_duplicates(result)
    typer.echo(f"\nReport: {plain(result.report)} (open it in a browser)")


def _print_counts(result: DemoResult) -> None:
    done = result.extraction
    rate = f", {done.images_per_second:.1f} images/s" if done.images_per_second else ""
    typer.echo(f"{count_of(done.embedded, 'image')} embedded, {done.failed:,} failed{rate}")
    typer.echo(f"Backbone {result.backbone}, licence of its weights: {result.licence}")
    if result.images.left_out:
        typer.echo(f"{result.images.left_out:,} more images of the folder were left out")
    for failure in result.failures[:_SHOWN]:
        meant = "" if failure in result.unexpected_failures else " (damaged on purpose)"
        typer.echo(f"Failed{meant}: {_name(result, failure.id)}: {plain(failure.reason)}")


def _print_classes(result: DemoResult) -> None:
    photos = [str(photo) for photo in result.images.photos if str(photo) in result.classes]
    photos.sort(key=lambda photo: -result.classes[photo][0][1])
    typer.echo("\nClasses of the photographs, highest confidence first")
    rows = []
    for photo in photos[:_SHOWN]:
        name, probability = result.classes[photo][0]
        rows.append((_name(result, photo), name.split(",")[0], f"{probability:.2f}"))
    print_table(("image", "class", "probability"), rows)


def _print_searches(result: DemoResult) -> None:
    if not result.searches:
        return
    typer.echo("\nNearest images (cosine)")
    for query, found in result.searches.items():
        near = ", ".join(f"{_name(result, name)} {score:.2f}" for name, score in found[:3])
        typer.echo(f"{_name(result, query)}: {near}")


def _print_duplicates(result: DemoResult) -> None:
    groups = result.groups
    typer.echo(f"\nNear-duplicates: {len(groups):,} groups of {sum(map(len, groups)):,} images")
    if result.found_copies:
        rows = [(edit, f"{hit} of {made}") for edit, (hit, made) in result.found_copies.items()]
        print_table(("edits", "grouped with their source image"), rows)


def _name(result: DemoResult, image_id: str) -> str:
    return plain(os.path.relpath(image_id, result.images.folder))


def _as_json(result: DemoResult) -> dict[str, Any]:
    done = result.extraction
    return {
        "output": str(result.report.parent),
        "report": str(result.report),
        "store": str(result.store),
        "index": str(result.index),
        "backbone": result.backbone,
        "licence": result.licence,
        "found": done.found,
        "embedded": done.embedded,
        "failed": done.failed,
        "skipped": done.skipped,
        "seconds": done.seconds,
        "images_per_second": done.images_per_second,
        "left_out": result.images.left_out,
        "failures": [
            {
                "id": failure.id,
                "reason": failure.reason,
                "on_purpose": failure not in result.unexpected_failures,
            }
            for failure in result.failures
        ],
        "classes": result.classes,
        "searches": result.searches,
        "groups": result.groups,
        "copies": {
            edit: {"found": found, "made": made}
            for edit, (found, made) in result.found_copies.items()
        },
    }
