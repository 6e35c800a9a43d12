"""``embedkit dedup``: finding copies, and what is written of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import dedup_plan
from ._output import count_of, plain, print_json, print_table
from ._quick import QuickCommand, QuickGroup

if TYPE_CHECKING:
    from embedkit.dedup import Duplicates

__all__ = ["NAME", "Linkage", "group"]

NAME = "dedup"

group = typer.Typer(
    help="Find copies of images, and decide what becomes of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=QuickGroup,
)


class Linkage(StrEnum):
    """How pairs become groups."""

    SINGLE = "single"
    AVERAGE = "average"
    COMPLETE = "complete"
    STAR = "star"
    PAIRS = "pairs"


_ClassesOption = Annotated[int, typer.Option(help="Classes to list of each store that leaks.")]


@group.command("find", cls=QuickCommand)
def _find(
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    against: Annotated[
        Path | None,
        typer.Option(help="Another store: find which of its images are in this one too (leaks)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score of a pair, above 0 and at most 1. [default: 0.95]"),
    ] = None,
    linkage: Annotated[
        Linkage,
        typer.Option(
            help="How pairs become groups: single joins whatever is connected; average and "
            "complete cut chains; star: all are copies of its centre; pairs: no groups."
        ),
    ] = Linkage.SINGLE,
    root: Annotated[
        Path, typer.Option(help="The folder that relative ids are below, for the thumbnails.")
    ] = Path(),
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html too.")
    ] = True,
    classes: _ClassesOption = 20,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older folder of duplicates.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find copies in a store or between two: tables and a report."""
    from embedkit.dedup import collect, find_pairs, write_duplicates
    from embedkit.dedup.files import check_output

    check_output(output, overwrite=overwrite)
    pairs = find_pairs(store, against=against, threshold=threshold)
    settings = {"threshold": pairs.info.threshold, "linkage": linkage.value}
    found = collect(pairs, store, against, linkage=linkage.value, settings=settings)
    write_duplicates(found, output, overwrite=overwrite, report=report, root=root)
    _tell(found, output, classes, json)


@group.command("rethreshold", cls=QuickCommand)
def _rethreshold(
    folder: Annotated[Path, typer.Argument(help="What 'dedup find' wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score, not below the one of the search. [default: that one]"),
    ] = None,
    linkage: Annotated[
        Linkage | None, typer.Option(help="How pairs become groups. [default: as before]")
    ] = None,
    root: Annotated[
        Path, typer.Option(help="The folder that relative ids are below, for the thumbnails.")
    ] = Path(),
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html too.")
    ] = True,
    classes: _ClassesOption = 20,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older folder of duplicates.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tighten the threshold or group otherwise; nothing is searched."""
    from embedkit.dedup import read_duplicates, rethreshold, write_duplicates
    from embedkit.dedup.files import check_output

    check_output(output, overwrite=overwrite)
    found = read_duplicates(folder)
    if threshold is None:
        threshold = found.pairs.info.threshold
    tightened = rethreshold(found, threshold, linkage.value if linkage else None)
    write_duplicates(tightened, output, overwrite=overwrite, report=report, root=root)
    _tell(tightened, output, classes, json)


def _tell(found: Duplicates, output: Path, classes: int, json: bool) -> None:
    from dataclasses import asdict

    from embedkit.dedup.summary import count

    counts = count(found)
    if json:
        leaks = None if found.leaks is None else asdict(found.leaks)
        print_json({"output": str(output), **counts, "leaks": leaks})
        return
    typer.echo(
        f"{plain(output)}: {count_of(counts['pairs'], 'pair')} "
        f"({counts['exact_pairs']:,} of equal bytes), {count_of(counts['groups'], 'group')} of "
        f"{count_of(counts['grouped_images'], 'image')}, {counts['surplus_images']:,} beyond one "
        "of each"
    )
    if found.leaks is None or found.against is None:
        return
    for name, side in ((found.store, found.leaks.store), (found.against, found.leaks.against)):
        typer.echo(f"{plain(name.path)}: {side.leaking:,} of {side.images:,} images are in both")
        rows = [(c.label, c.leaking, c.images) for c in side.classes[:classes]]
        if rows:
            print_table(("class", "in both", "images"), rows)


for _name, _command in dedup_plan.COMMANDS.items():
    group.command(_name, cls=QuickCommand)(_command)
