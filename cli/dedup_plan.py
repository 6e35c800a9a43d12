"""``embedkit dedup plan``, ``apply``, ``undo`` and ``purge``: what becomes of copies."""

from __future__ import annotations

from enum import StrEnum
from itertools import count
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from ._output import ExitCode, ProgressLine, count_of, plain, print_json, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.dedup.cleanup.apply import Applied, Outcome

__all__ = ["COMMANDS", "Action", "Keep"]


class Keep(StrEnum):
    """Which image of a group is kept."""

    LARGEST = "largest"
    BEST_QUALITY = "best-quality"
    NEWEST = "newest"
    OLDEST = "oldest"
    FIRST = "first"
    PATH_PRIORITY = "path-priority"
    SPLIT_PRIORITY = "split-priority"


class Action(StrEnum):
    """What is done with the files that go."""

    LIST = "list"
    MOVE = "move"
    HARDLINK = "hardlink"
    DELETE = "delete"
    SYMLINK = "symlink"


def _plan(
    folder: Annotated[Path, typer.Argument(help="What 'dedup find' wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file to write.")],
    keep: Annotated[Keep, typer.Option(help="Which image of a group is kept.")] = Keep.BEST_QUALITY,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            help="For path-priority a pattern of paths, for split-priority the name of a folder; "
            "repeat it, best first."
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="The folder that relative ids are below.")] = Path(),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing plan.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write what to keep and what to remove, a CSV file to review.

    No image is touched.
    """
    from collections import Counter

    from embedkit.dedup import make_plan, read_duplicates, write_plan

    found = read_duplicates(folder)
    rows = make_plan(found, keep.value, prefer=prefer or (), root=root)
    write_plan(rows, output, overwrite=overwrite)
    counts = Counter(row.action for row in rows)
    nbytes = sum(row.nbytes for row in rows if row.action == "remove")
    if json:
        told = {name: counts[name] for name in ("keep", "remove", "none")}
        print_json({"plan": str(output), **told, "remove_bytes": nbytes})
        return
    typer.echo(
        f"{plain(output)}: keep {counts['keep']:,}, remove {counts['remove']:,} "
        f"({nbytes / 1e6:,.1f} MB), {counts['none']:,} that can't be acted on"
    )


def _apply(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(help="The plan, a CSV file.")],
    action: Annotated[
        Action,
        typer.Option(
            help="list: only check the files and print them; move: to --to; delete: into a trash "
            "folder, which 'dedup purge' empties; hardlink, symlink: as delete, and a link to the "
            "kept file in its place."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="The folder the files go to. [default: JOURNAL.trash; move needs it]"),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="What was done, for undo. [default: PLAN.journal]")
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Do it. Without, nothing is touched.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Carry out a plan: a dry run unless told, journalled.

    Undo takes it back. Killed at any moment, the same command goes on.
    """
    from embedkit.dedup import apply_plan

    journal = journal or Path(f"{plan}.journal")
    try:
        with ProgressLine(quiet=context.obj["quiet"]) as line:
            done = apply_plan(
                plan,
                action.value,
                to=to,
                journal=journal,
                execute=execute,
                on_outcome=_count_on(line),
            )
    except KeyboardInterrupt:
        if execute and journal.exists():
            tell(
                "interrupted: the same command goes on; to take back what was done: "
                f"embedkit dedup undo {quote(str(journal))}"
            )
        raise
    if action is Action.LIST and not json:
        for outcome in done.outcomes:
            if outcome.result != "refused":
                typer.echo(plain(outcome.path))
        _refusals(done)
    else:
        _tell(done, action.value, json)
        if not execute and not json:
            typer.echo("nothing was touched: a dry run; --execute does it")
    _exit(done)


def _undo(
    context: typer.Context,
    journal: Annotated[Path, typer.Argument(help="The journal of 'dedup apply'.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take back all that a journal tells of."""
    from embedkit.dedup import undo_journal

    with ProgressLine(quiet=context.obj["quiet"]) as line:
        done = undo_journal(journal, on_outcome=_count_on(line))
    _tell(done, "undo", json)
    _exit(done)


def _purge(
    context: typer.Context,
    journal: Annotated[Path, typer.Argument(help="The journal of 'dedup apply'.")],
    execute: Annotated[
        bool, typer.Option("--execute", help="Do it. Without, nothing is touched.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete what apply put into the trash: it can't be undone.

    A dry run unless told.
    """
    from embedkit.dedup import purge_journal

    with ProgressLine(quiet=context.obj["quiet"]) as line:
        done = purge_journal(journal, execute=execute, on_outcome=_count_on(line))
    _tell(done, "purge", json)
    if not execute and not json:
        typer.echo("nothing was touched: a dry run; --execute does it")
    _exit(done)


COMMANDS: dict[str, Callable[..., None]] = {
    "plan": _plan,
    "apply": _apply,
    "undo": _undo,
    "purge": _purge,
}


def _count_on(line: ProgressLine) -> Callable[[Outcome], None]:
    """Shows on a line how many files are through."""
    numbers = count(1)
    return lambda _: line.files(next(numbers))


def _tell(done: Applied, word: str, json: bool) -> None:
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
    before = f", {done.count('before'):,} done before" if done.count("before") else ""
    typer.echo(
        f"{word}: {count_of(done.count('done'), 'file')}{before}, "
        f"{done.count('refused'):,} refused ({done.nbytes / 1e6:,.1f} MB)"
    )
    if done.journal is not None and word not in {"undo", "purge"}:
        typer.echo(f"journal: {plain(done.journal)}")
    _refusals(done)


def _refusals(done: Applied) -> None:
    for outcome in done.outcomes:
        if outcome.result == "refused":
            typer.echo(f"{plain(outcome.path)}: {plain(outcome.reason)}", err=True)


def _exit(done: Applied) -> None:
    if done.count("refused"):
        raise typer.Exit(ExitCode.SOME_FAILED)
