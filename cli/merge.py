"""``embedkit merge``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._command import JsonOption, examples
from ._output import count_of, plain, print_json
from ._work_dir import WorkDirOption

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit merge part1.h5 part2.h5 -o photos.h5",
    "embedkit merge part-*.partial -o photos/",
    "embedkit merge old.h5 new.h5 -o photos.h5 --duplicates last",
)


class DuplicateIds(StrEnum):
    """What to do about an id that several rows have."""

    ERROR = "error"
    FIRST = "first"
    LAST = "last"


def command(
    stores: Annotated[
        list[Path],
        typer.Argument(
            help="Stores: files or folders of shards; or the .partial folders of all parts of one "
            "'extract --sharded --part'."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Store to write; of .partial folders: a file if it ends in .h5, else a folder. "
            "May be a URL.",
        ),
    ],
    duplicates: Annotated[
        DuplicateIds,
        typer.Option(
            help="An id that several rows have: refuse it, or keep its first or last row."
        ),
    ] = DuplicateIds.ERROR,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing store.")
    ] = False,
    work_dir: WorkDirOption = None,
    json: JsonOption = False,
) -> None:
    """Merge stores into one; all must have the same embedding settings."""
    from embedkit.store.merge import merge_counted

    merged, counts = merge_counted(
        stores, output, duplicates=duplicates.value, overwrite=overwrite, work_dir=work_dir
    )
    if json:
        print_json({"store": str(merged), "embedded": counts.embedded, "failed": counts.failed})
    else:
        text = f"{count_of(counts.embedded, 'embedding')} of {count_of(len(stores), 'store')}"
        typer.echo(f"{plain(merged)}: {text}")
