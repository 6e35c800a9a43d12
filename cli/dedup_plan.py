"""``embedkit dedup plan``, ``apply``, ``undo`` and ``purge``: remove near-duplicates."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from ._command import JsonOption
from ._output import ExitCode, bytes_of, count_of, plain, print_json, print_message
from ._panels import INPUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.dedup.cleanup.apply import Applied

__all__ = ["COMMANDS", "Action", "Keep"]


_LISTED = 20

AllOption = Annotated[bool, typer.Option("--all", help="List every file in a dry run, not 20.")]


class Keep(StrEnum):
    """Policies for choosing the image to keep."""

    ORIGINAL = "original"
    LARGEST = "largest"
    BEST_QUALITY = "best-quality"
    NEWEST = "newest"
    OLDEST = "oldest"
    FIRST = "first"
    PATH_PRIORITY = "path-priority"
    SPLIT_PRIORITY = "split-priority"


class Action(StrEnum):
    """What to do with the files to remove."""

    LIST = "list"
    MOVE = "move"
    HARDLINK = "hardlink"
    DELETE = "delete"
    SYMLINK = "symlink"
    WRITE = "write"


def _plan(
    folder: Annotated[Path, typer.Argument(help="Folder written by 'dedup find'.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")],
    keep: Annotated[Keep, typer.Option(help="Image to keep per group.")] = Keep.ORIGINAL,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            help="Path pattern for path-priority, folder name for split-priority; repeatable, best "
            "first."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative ids start from [default: as the store remembers].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder (or other source) of the images, whose pixels are compared; repeatable "
            "[default: the paths in the ids].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    reject: Annotated[
        Path | None,
        typer.Option(help="CSV file of pairs that are no duplicates: two ids per line."),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of ids that are never removed; repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing plan.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a plan of what to keep and remove, as a CSV file to review.

    Changes no image. An image is removed only if its bytes or its pixels were compared with those
    of the image that is kept.
    """
    from collections import Counter

    from embedkit.dedup import make_plan, read_duplicates, write_plan
    from embedkit.dedup.cleanup.compare import NOT_VERIFIED

    found = read_duplicates(folder)
    rows = make_plan(
        found,
        keep.value,
        prefer=prefer or (),
        root=root,
        images=images or (),
        reject=reject,
        protect=protect or (),
    )
    write_plan(rows, output, overwrite=overwrite)
    counts = Counter(row.action for row in rows)
    nbytes = sum(row.nbytes for row in rows if row.action == "remove")
    reasons = Counter(
        re.split("[,:]", row.reason.removeprefix(NOT_VERIFIED))[0]
        for row in rows
        if row.reason.startswith(NOT_VERIFIED)
    )
    if json:
        result = {name: counts[name] for name in ("keep", "remove", "none")}
        print_json(
            {
                "plan": str(output),
                **result,
                "not_verified": reasons.total(),
                "remove_bytes": nbytes,
            }
        )
        return
    typer.echo(
        f"{plain(output)}: keep {counts['keep']:,}, remove {counts['remove']:,} "
        f"({bytes_of(nbytes)}), {counts['none']:,} that can't be changed"
    )
    if reasons:
        typer.echo(f"{count_of(reasons.total(), 'image')} kept because not verified:")
        for reason, number in reasons.most_common(5):
            typer.echo(f"  {number:,}: {plain(reason)}")


def _apply(
    plan: Annotated[Path, typer.Argument(help="Plan: a CSV file.")],
    action: Annotated[
        Action,
        typer.Option(
            help="list: check the files and print them; move: to --to; delete: into a trash folder "
            "that 'dedup purge' empties; hardlink, symlink: as delete, and link to the kept file; "
            "write: copies of the archives without the removed images."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder to move the files to [default: JOURNAL.trash; required for move]; for "
            "write: names of the copies, such as 'clean-{00000..}.tar'."
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="For write: the tar or Parquet archives to copy; repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="For write: replace existing files.")
    ] = False,
    journal: Annotated[
        Path | None, typer.Option(help="Record of every change, for undo [default: PLAN.journal].")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative ids start from; needed in a copy of it, where both have the "
            "files.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Make the changes; without it, a dry run.")
    ] = False,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Apply a plan. Dry run unless --execute; every change is journaled.

    'dedup undo' reverts it. After an interruption, run the same command again to resume.
    """
    from embedkit.dedup import apply_plan

    journal = journal or Path(f"{plan}.journal")
    try:
        done = apply_plan(
            plan,
            action.value,
            to=to,
            journal=journal,
            root=root,
            images=images or (),
            overwrite=overwrite,
            execute=execute,
        )
    except KeyboardInterrupt:
        if execute and journal.exists():
            print_message(
                "interrupted: run the same command to resume; to undo the changes: "
                f"embedkit dedup undo {quote(str(journal))}"
            )
        raise
    if action is Action.LIST and not json:
        for outcome in done.outcomes:
            if outcome.result != "refused":
                typer.echo(plain(outcome.path))
        _refusals(done)
    else:
        _print_result(done, action.value, json)
        if not execute and not json:
            _print_dry_run(done, every=every)
    _exit(done)


def _undo(
    journal: Annotated[Path, typer.Argument(help="Journal of 'dedup apply'.")],
    json: JsonOption = False,
) -> None:
    """Undo every change recorded in a journal."""
    from embedkit.dedup import undo_journal

    done = undo_journal(journal)
    _print_result(done, "undo", json)
    _exit(done)


def _purge(
    journal: Annotated[Path, typer.Argument(help="Journal of 'dedup apply'.")],
    execute: Annotated[
        bool, typer.Option("--execute", help="Make the changes; without it, a dry run.")
    ] = False,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Delete the trash of 'dedup apply' for good. Dry run unless --execute."""
    from embedkit.dedup import purge_journal

    done = purge_journal(journal, execute=execute)
    _print_result(done, "purge", json)
    if not execute and not json:
        _print_dry_run(done, every=every)
    _exit(done)


COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "plan": (
        _plan,
        (
            "embedkit dedup plan duplicates/ -o plan.csv --keep largest",
            "embedkit dedup plan duplicates/ -o plan.csv --protect 'album/**'",
        ),
    ),
    "apply": (
        _apply,
        (
            "embedkit dedup apply plan.csv --action list",
            "embedkit dedup apply plan.csv --action move --to removed/ --execute",
            "embedkit dedup apply plan.csv --action write --images 'in/*.tar' --to 'out/{0..}.tar'",
        ),
    ),
    "undo": (_undo, ("embedkit dedup undo plan.csv.journal",)),
    "purge": (_purge, ("embedkit dedup purge plan.csv.journal --execute",)),
}


def _print_result(done: Applied, word: str, json: bool) -> None:
    if json:
        from dataclasses import asdict

        print_json(
            {
                "journal": done.journal and str(done.journal),
                "bytes": done.nbytes,
                "files": [asdict(outcome) for outcome in done.outcomes],
            }
        )
        return
    before = f", {done.count('before'):,} done earlier" if done.count("before") else ""
    typer.echo(
        f"{word}: {count_of(done.count('done'), 'file')}{before}, "
        f"{done.count('refused'):,} refused ({bytes_of(done.nbytes)})"
    )
    if done.written:
        typer.echo(
            f"written: {count_of(len(done.written), 'archive')}, the first is "
            f"{plain(done.written[0])}"
        )
    if done.journal is not None and word not in {"undo", "purge"}:
        typer.echo(f"journal: {plain(done.journal)}")
    _refusals(done)


def _print_dry_run(done: Applied, *, every: bool) -> None:
    """Lists the files that would be changed, the first 20 or all."""
    files = [outcome for outcome in done.outcomes if outcome.result == "done"]
    for outcome in files if every else files[:_LISTED]:
        typer.echo(f"  {plain(outcome.path)} ({bytes_of(outcome.nbytes)})")
    if len(files) > _LISTED and not every:
        typer.echo(f"  and {len(files) - _LISTED:,} more; --all lists them")
    typer.echo("dry run, nothing was changed; pass --execute to apply")


def _refusals(done: Applied) -> None:
    for outcome in done.outcomes:
        if outcome.result == "refused":
            print_message(f"{plain(outcome.path)}: {outcome.reason}")


def _exit(done: Applied) -> None:
    if done.count("refused"):
        raise typer.Exit(ExitCode.SOME_FAILED)
