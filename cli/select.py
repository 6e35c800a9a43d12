"""``embedkit select``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._embedding import WorkersOption
from ._output import check_outputs, count_of, plain, print_json
from ._panels import OUTPUT

if TYPE_CHECKING:
    from embedkit.analysis.selection import Selection

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit select photos.h5 --per-class 100 -o selection.csv",
    "embedkit select part1.h5 part2.h5 --per-class 10 --classes @classes.txt -o selection.csv",
)


def command(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="Stores (.h5) of one backbone.")
    ],
    per_class: Annotated[int, typer.Option(min=1, help="Images per class, at most.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="List to write: .csv, .jsonl or .parquet.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Class to select: synset, name or number, or @FILE with one per line; repeatable "
            "[default: all]."
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Lowest probability of the class.")
    ] = None,
    max_classes: Annotated[
        int, typer.Option(min=1, help="Classes per image, at most: its most likely ones.")
    ] = 10,
    workers: WorkersOption = None,
    webdataset: Annotated[
        Path | None,
        typer.Option(
            help="Write the list as JSON lines: tar shards, and the samples to take from each.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --webdataset.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the highest-confidence images per class.

    Scores all images from their embeddings, in constant memory.
    """
    from embedkit.analysis.selection import select, write_selection, write_webdataset

    if output is None and webdataset is None:
        raise typer.BadParameter("give --output FILE, or --webdataset FILE")
    check_outputs(output, webdataset, what="selections", overwrite=overwrite)
    selection = select(
        stores,
        per_class,
        classes=None if classes is None else _expand(classes),
        min_score=min_score,
        max_classes=max_classes,
        workers=workers,
    )
    if output is not None:
        write_selection(selection, output, overwrite=overwrite)
    if webdataset is not None:
        write_webdataset(selection, webdataset, overwrite=overwrite)
    summary = _as_json(selection, per_class)
    if json:
        names = {"output": output, "webdataset": webdataset}
        print_json({**summary, **{key: path and str(path) for key, path in names.items()}})
        return
    full = f"{summary['full']:,} of {summary['classes']:,} classes reached {per_class:,}"
    typer.echo(
        f"{count_of(summary['lines'], 'selection')} from {summary['images']:,} of "
        f"{count_of(summary['scanned'], 'image')}; {full}"
    )
    for path in filter(None, (output, webdataset)):
        typer.echo(f"{plain(path)}: written")


def _expand(classes: list[str]) -> list[str]:
    """The classes that are named, those in files too."""
    out: list[str] = []
    for word in classes:
        if not word.startswith("@"):
            out.append(word)
            continue
        try:
            text = Path(word[1:]).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            raise typer.BadParameter(f"--classes {word}: can't be read: {exc}") from exc
        out += [line.strip() for line in text.splitlines() if line.strip()]
    return out


def _as_json(selection: Selection, per_class: int) -> dict[str, Any]:
    counts = selection.counts.tolist()
    return {
        "scanned": selection.scanned,
        "images": selection.images,
        "lines": len(selection.rows),
        "classes": len(selection.asked),
        "full": sum(count == per_class for count in counts),
        "counts": [
            {"class": number, "class_name": selection.head.class_names[number], "images": count}
            for number, count in zip(selection.asked, counts, strict=True)
        ],
    }
