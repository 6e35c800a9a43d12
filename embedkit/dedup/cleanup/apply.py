"""Applies a plan, undoes it, and purges what it put aside."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from embedkit.dedup.cleanup.compare import NOT_VERIFIED, PixelComparison, compared_mark
from embedkit.dedup.cleanup.journal import Entry, FileAction, Journal, Run
from embedkit.dedup.cleanup.operations import carry_out, is_keeper_there, recover, restore, tidy
from embedkit.dedup.cleanup.paths import refuse_other_folder
from embedkit.dedup.cleanup.plan_csv import read_plan
from embedkit.dedup.cleanup.safe_move import (
    RefusedError,
    is_writable,
    nearest_folder,
    read_file,
    reasons,
)
from embedkit.dedup.cleanup.write_archives import Archives, output_names
from embedkit.errors import DedupError
from embedkit.sources import ImageReader
from embedkit.sources.id_lookup import archive_of
from embedkit.utils.atomic_write import sync_folder
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedkit.dedup.cleanup.plan import PlanRow
    from embedkit.dedup.cleanup.plan_csv import Plan
    from embedkit.dedup.cleanup.safe_move import SeenFile
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Applied", "Outcome", "apply_plan", "purge_journal", "undo_journal"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one file.

    Attributes:
        path: The file.
        result: ``done`` (in a dry run: would be done), ``before`` (by an earlier run), or
            ``refused``.
        nbytes: Its size.
        target: Where it went; empty where it didn't.
        reason: Why it was refused.
    """

    path: str
    result: Literal["done", "before", "refused"]
    nbytes: int = 0
    target: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcomes for all files.

    Attributes:
        outcomes: One for each file.
        journal: Where it is written down; None in a dry run.
        written: Copies of archives that were written.
    """

    outcomes: tuple[Outcome, ...]
    journal: Path | None
    written: tuple[Path, ...] = ()

    def count(self, result: str) -> int:
        """How many files have this result."""
        return sum(outcome.result == result for outcome in self.outcomes)

    @property
    def nbytes(self) -> int:
        """Bytes of the files that it was done to, now or before."""
        return sum(outcome.nbytes for outcome in self.outcomes if outcome.result != "refused")


def apply_plan(
    plan: str | os.PathLike[str],
    action: Literal["list", "move", "hardlink", "delete", "symlink", "write"],
    *,
    to: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    execute: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: bool | ProgressCallback = False,
) -> Applied:
    """Applies a plan, or without ``execute`` reports what would be done.

    Just before a file is changed it is read again and must have the plan's content hash, and the
    file that it is a copy of, or a kept one of the same bytes, must be there, be another file, and
    have its own content hash. Where the two differ in bytes, and the plan doesn't say that these
    two contents were compared, their pixels are compared now. A file that fails one of these checks
    is refused, and the next ones are processed.

    Every action first moves the file to ``to``, below its whole path. ``hardlink`` (same bytes
    only) and ``symlink`` then put a link to the kept file in its place. So every action can be
    undone by ``undo_journal``; ``purge_journal`` frees the space of all but ``move``. If the
    process is killed at any moment, the same call resumes.

    ``write`` is for images inside tar archives and Parquet files: each archive is copied without
    the removed images, and without what belongs to these in their samples. The archives stay.

    Args:
        plan: A plan's CSV file.
        action: What to do with the removed files; ``list`` only checks them.
        to: The folder that they are moved to, needed for ``move``; None is ``<journal>.trash``. For
            ``write`` the copies' names, such as ``clean-{00000..}.tar``.
        journal: None is ``<plan>.journal``.
        root: The folder that relative ids of the plan are below. It is needed only where these name
            other files in the working folder, or beside the plan, than the plan's paths do: in a
            copy of the folder.
        images: The archives to copy, for ``write``.
        overwrite: Whether ``write`` may replace files.
        execute: Whether to change files; False is a dry run.
        on_outcome: Called after each file.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        DedupError: The plan or the journal can't be used, or is of another folder.
        ValueError: The arguments don't go together.
    """
    if action not in {"list", "write", *get_args(FileAction)}:
        raise ValueError(f"no action {action!r}: list, {', '.join(get_args(FileAction))}, write")
    if action == "write":
        if to is None:
            raise ValueError("write needs to=..., the names of the copies")
        if root is not None:
            raise ValueError("root=... doesn't go with write, whose archives images=... names")
        names = os.fspath(to)
        with reporting(progress):
            return _write(read_plan(plan), names, images, overwrite, execute, on_outcome)
    if images or overwrite:
        raise ValueError("images=... and overwrite=True go with write only")
    if action == "move" and to is None:
        raise ValueError("move needs to=..., the folder to move to")
    if action == "list" and (execute or to is not None):
        raise ValueError("list only checks the files: neither execute=True nor to=... goes with it")
    read = read_plan(plan)
    refuse_other_folder(read, root)
    path = Path(os.path.abspath(journal or f"{os.fspath(plan)}.journal"))  # noqa: PTH100
    folder = os.path.realpath(to or f"{path}.trash")
    kind: FileAction = "move" if action == "list" else action
    run = Run(kind, folder, os.fspath(plan), read.sha256, str(path))
    if action != "list":
        _refuse_folder(Path(folder))
    worker = _Worker(read, run, check_target=action != "list")
    if not execute:
        with reporting(progress):
            return Applied(_each(read, worker.preview, on_outcome), None)
    with reporting(progress), Journal.locked(path, create=True) as opened:
        opened.start(run)
        worker.remember(opened)
        return Applied(_each(read, lambda row: worker.work(row, opened), on_outcome), path)


def _write(
    plan: Plan,
    to: str,
    images: Sequence[str | os.PathLike[str]],
    overwrite: bool,
    execute: bool,
    on_outcome: Callable[[Outcome], None] | None,
) -> Applied:
    with ImageReader() as reader:
        archives = Archives.list_all(images, reader)
        paths = archives.paths()
        targets = output_names(to, len(paths))

        def check(row: PlanRow) -> Outcome:
            reason = archives.why_not(row, plan)
            if reason:
                return Outcome(row.path, "refused", reason=reason)
            return Outcome(row.path, "done", row.nbytes)

        outcomes = _each(plan, check, on_outcome)
        removed = [outcome.path for outcome in outcomes if outcome.result == "done"]
        if execute:
            for path, target in zip(paths, targets, strict=True):
                mine = [place for place in removed if archives.images[place].path == path]
                archives.copy(path, target, mine, overwrite=overwrite)
    return Applied(outcomes, None, tuple(targets) if execute else ())


def _refuse_folder(folder: Path) -> None:
    """Refuses a folder to move to that can't be made or written, before any file is looked at."""
    nearest = nearest_folder(folder)
    if not nearest.is_dir():
        raise DedupError(f"{nearest}: is no folder; choose another to=...")
    if not is_writable(nearest):
        raise DedupError(f"{nearest}: nothing may be written there; choose another to=...")


def _each(
    plan: Plan,
    function: Callable[[PlanRow], Outcome],
    on_outcome: Callable[[Outcome], None] | None,
) -> tuple[Outcome, ...]:
    outcomes = []
    rows = [row for row in plan.rows if row.action == "remove"]
    for row in track(rows, "checking files", len(rows), unit="files"):
        outcomes.append(function(row))
        if on_outcome is not None:
            on_outcome(outcomes[-1])
    return tuple(outcomes)


class _Worker:
    """Checks and does the rows of one plan."""

    def __init__(self, plan: Plan, run: Run, *, check_target: bool) -> None:
        self._plan = plan
        self._run = run
        self._check_target = check_target
        self._removed: dict[tuple[int, int], str] = {}  # inodes, and the name that each went by
        self._comparison = PixelComparison(_read_bytes)

    def preview(self, row: PlanRow) -> Outcome:
        """What would become of a file."""
        try:
            entry, _ = self._check(row)
            if self._check_target:
                if os.path.lexists(entry.target):
                    raise RefusedError(f"{entry.target} exists already")
                for path in (entry.path, entry.target):
                    if not is_writable(folder := nearest_folder(Path(path).parent)):
                        raise RefusedError(f"nothing may be written in {folder}")
        except RefusedError as exc:
            return Outcome(row.path, "refused", reason=str(exc))
        self._removed[entry.inode] = row.path
        return Outcome(row.path, "done", entry.nbytes, entry.target)

    def remember(self, journal: Journal) -> None:
        """Takes note of the files that went in an earlier run."""
        for entry in journal.entries.values():
            if entry.status in {"begun", "done"}:
                self._removed[entry.inode] = entry.path

    def work(self, row: PlanRow, journal: Journal) -> Outcome:
        """Does it."""
        try:
            before = journal.entries.get(row.path)
            if before is not None:
                is_over = before.status in {"done", "purged"}
                if is_over or (before.status == "begun" and recover(journal, before)):
                    return Outcome(row.path, "before", before.nbytes, before.target)
            entry, seen = self._check(row)
            carry_out(journal, entry, seen)
        except RefusedError as exc:
            return Outcome(row.path, "refused", reason=str(exc))
        self._removed[entry.inode] = row.path
        return Outcome(row.path, "done", entry.nbytes, entry.target)

    def _check(self, row: PlanRow) -> tuple[Entry, SeenFile]:
        """What to do with a file, if it is the one that was embedded and something else stays."""
        seen = read_file(row.path)
        if seen is None:
            raise RefusedError(_why_missing(row.path))
        if seen.sha256 != row.content_hash:
            raise RefusedError("changed since it was embedded: other bytes")
        if self._removed.get(seen.inode, row.path) != row.path:
            raise RefusedError(f"the same file as {self._removed[seen.inode]}, which goes already")
        keeper, kept = self._keeper(row, seen)
        if row.compared != compared_mark(seen.sha256, kept.sha256) and seen.sha256 != kept.sha256:
            problem = self._comparison.why_not((0, row.path), (0, keeper))
            if problem:
                raise RefusedError(f"{NOT_VERIFIED}{problem}")
        if self._run.action == "hardlink":
            if kept.sha256 != seen.sha256:
                raise RefusedError("not the same bytes as what is kept: no hard link")
            if kept.inode[0] != seen.inode[0]:
                raise RefusedError("on another disk than what is kept: no hard link")
        entry = Entry(
            row.path,
            seen.sha256,
            seen.nbytes,
            seen.inode,
            keeper,
            kept.sha256,
            kept.inode,
            self._run.action,
            self._run.to,
        )
        return entry, seen

    def _keeper(self, row: PlanRow, seen: SeenFile) -> tuple[str, SeenFile]:
        """A kept file that is there and right: the original, or one of equal bytes."""
        reason = ""
        for kept in self._plan.keepers(row):
            try:
                found = read_file(kept.path)
                if found is None:
                    reason = "is gone"
                elif found.sha256 != kept.content_hash:
                    reason = "has other bytes"
                elif found.inode == seen.inode:
                    reason = "is the same file"
                else:
                    return kept.path, found
            except RefusedError as exc:
                reason = f"can't be used: {exc}"
            reason = f"{kept.path} {reason}"
        raise RefusedError(f"nothing that it is a copy of would be left: {reason}")


def _read_bytes(key: tuple[int, str]) -> bytes:
    try:
        return Path(key[1]).read_bytes()
    except OSError as exc:
        raise DedupError(f"{key[1]}: can't be read: {exc.strerror or exc}") from exc


def _why_missing(path: str) -> str:
    if archive_of(path, (Path("/"),)) is None:
        return "no such file"
    return "inside an archive: action='write' copies the archive without it"


def undo_journal(
    journal: str | os.PathLike[str],
    *,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: bool | ProgressCallback = False,
) -> Applied:
    """Undoes every change that a journal records, the last first.

    A file whose place is taken by something else meanwhile, or whose copy was changed or purged, is
    refused, and the next ones are processed. If the process is killed, the same call resumes.

    Args:
        journal: The journal of ``apply_plan``.
        on_outcome: Called after each file.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        DedupError: The journal can't be used.
    """
    path = Path(os.path.abspath(journal))  # noqa: PTH100
    outcomes = []
    with reporting(progress), Journal.locked(path) as opened:
        entries = list(opened.entries.values())[::-1]
        for entry in track(entries, "undoing", len(entries), unit="files"):
            if entry.status == "undone":
                continue
            outcomes.append(_undo(opened, entry))
            if on_outcome is not None:
                on_outcome(outcomes[-1])
    return Applied(tuple(outcomes), path)


def _undo(journal: Journal, entry: Entry) -> Outcome:
    if entry.status in {"purging", "purged"}:
        return Outcome(entry.path, "refused", reason="purged: its bytes are gone")
    try:
        restore(journal, entry)
    except RefusedError as exc:
        return Outcome(entry.path, "refused", reason=str(exc))
    return Outcome(entry.path, "done", entry.nbytes, entry.target)


def purge_journal(
    journal: str | os.PathLike[str],
    *,
    execute: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: bool | ProgressCallback = False,
) -> Applied:
    """Deletes for good the files that ``delete``, ``hardlink`` or ``symlink`` put aside.

    It can't be undone. Just before, the kept file must be there with its content hash. Without
    ``execute`` it reports what would be deleted.

    Args:
        journal: The journal of ``apply_plan``.
        execute: Whether to delete; False is a dry run.
        on_outcome: Called after each file.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        DedupError: The journal can't be used, or is of ``move``.
    """
    path = Path(os.path.abspath(journal))  # noqa: PTH100
    outcomes: list[Outcome] = []
    with reporting(progress), Journal.locked(path, read_only=not execute) as opened:
        if opened.run is not None and opened.run.action == "move":
            raise DedupError(f"{path}: of move: the files are in {opened.run.to}, for you to keep")
        entries: Sequence[Entry] = list(opened.entries.values())
        for entry in track(entries, "checking files", len(entries), unit="files"):
            if entry.status in {"undone", "purged"}:
                continue
            outcomes.append(_purge(opened, entry, execute=execute))
            if on_outcome is not None:
                on_outcome(outcomes[-1])
    return Applied(tuple(outcomes), path if execute else None)


def _purge(journal: Journal, entry: Entry, *, execute: bool) -> Outcome:
    reason = _why_not_purge(entry)
    if reason:
        return Outcome(entry.path, "refused", reason=reason)
    if execute:
        if entry.status != "purging":
            journal.mark(entry.path, "purging")
        target = Path(entry.target)
        try:
            with reasons():
                target.unlink(missing_ok=True)
                sync_folder(target.parent)
        except RefusedError as exc:
            return Outcome(entry.path, "refused", reason=str(exc))
        tidy(entry)
        journal.mark(entry.path, "purged")
    return Outcome(entry.path, "done", entry.nbytes, entry.target)


def _why_not_purge(entry: Entry) -> str:
    if entry.status not in {"done", "purging"}:
        return "not done yet: apply or undo first"
    if not is_keeper_there(entry):
        return f"the file that was kept isn't there as it was: {entry.keeper}"
    try:
        moved = read_file(entry.target)
    except RefusedError as exc:
        return f"{entry.target}: {exc}"
    if moved is None:
        return "" if entry.status == "purging" else f"{entry.target} is gone"
    return "" if moved.sha256 == entry.sha256 else f"{entry.target} has other bytes"
