"""The operations on one file: carry out, recover after an interruption, restore.

Each records its steps in the journal, whose module draws the states of an entry.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.dedup.cleanup.safe_move import (
    RefusedError,
    make_folders,
    move_file,
    read_file,
    reasons,
    remove_empty_folders,
    remove_part,
)
from embedkit.utils.atomic_write import sync_folder

if TYPE_CHECKING:
    from embedkit.dedup.cleanup.journal import Entry, Journal
    from embedkit.dedup.cleanup.safe_move import SeenFile

__all__ = ["carry_out", "is_keeper_there", "recover", "restore", "tidy"]

_LINKS = ("hardlink", "symlink")


def carry_out(journal: Journal, entry: Entry, seen: SeenFile) -> None:
    """Moves a file away, and puts a link in its place if the action is to link.

    Args:
        journal: Records the file before and after.
        entry: What to do.
        seen: The file as it was checked.

    Raises:
        RefusedError: It can't be done; the file is where it was.
    """
    if os.path.lexists(entry.target):
        raise RefusedError(f"{entry.target} exists already")
    journal.begin(entry)
    try:
        make_folders(Path(entry.target).parent, Path(entry.to))
        move_file(entry.path, entry.target, seen)
        if entry.action in _LINKS:
            _link_or_put_back(entry)
    except RefusedError:
        if _is_original(entry):  # else the journal stays at begun, and a rerun recovers it
            tidy(entry)
            journal.mark(entry.path, "undone")
        raise
    journal.mark(entry.path, "done")


def recover(journal: Journal, entry: Entry) -> bool:
    """Completes an interrupted operation: forward if the file is moved already, else back.

    Returns:
        Whether the file is moved; if not, it is in its place and the entry is undone.

    Raises:
        RefusedError: Neither the file nor the moved one is there unchanged.
    """
    if _is_original(entry):
        _drop_target(entry)
        journal.mark(entry.path, "undone")
        return False
    moved = read_file(entry.target)
    if moved is None or moved.sha256 != entry.sha256:
        raise RefusedError(f"neither it nor {entry.target} is there as it was")
    if entry.action in _LINKS and not _is_our_link(entry):
        if not is_keeper_there(entry):
            restore(journal, entry)
            return False
        if os.path.lexists(entry.path):
            raise RefusedError(f"something else is there now; the original is {entry.target}")
        _link_or_put_back(entry)
    journal.mark(entry.path, "done")
    return True


def restore(journal: Journal, entry: Entry) -> None:
    """Moves a file back to its place.

    Raises:
        RefusedError: What was moved isn't there as it was, or something else took its place.
    """
    if entry.status != "undoing":
        journal.mark(entry.path, "undoing")
    remove_part(entry.path)
    if _is_original(entry):
        if entry.status != "done":  # else somebody brought it back, and the target is theirs
            _drop_target(entry)
    else:
        _put_back(entry)
    tidy(entry)
    journal.mark(entry.path, "undone")


def is_keeper_there(entry: Entry) -> bool:
    """Whether the file that was kept is there with the right bytes, and isn't the one that went."""
    try:
        seen = read_file(entry.keeper)
        moved = Path(entry.target).lstat() if os.path.lexists(entry.target) else None
    except (RefusedError, OSError):
        return False
    is_other = moved is None or seen is None or seen.inode != (moved.st_dev, moved.st_ino)
    return seen is not None and seen.sha256 == entry.keeper_sha256 and is_other


def tidy(entry: Entry) -> None:
    """Removes the folders that were made for a file, and the trash itself, if they are empty."""
    remove_empty_folders(Path(entry.target).parent, Path(entry.to))
    if entry.action != "move":
        with suppress(OSError):
            Path(entry.to).rmdir()


def _is_original(entry: Entry) -> bool:
    """Whether the file itself is at its place, and no link that stands for it."""
    if _is_our_link(entry):
        return False
    try:
        seen = read_file(entry.path)
    except RefusedError:
        return False
    return seen is not None and seen.sha256 == entry.sha256


def _is_our_link(entry: Entry) -> bool:
    if entry.action not in _LINKS:
        return False
    try:
        status = Path(entry.path).lstat()
        if entry.action == "symlink":
            is_link = stat.S_ISLNK(status.st_mode)
            return is_link and os.readlink(entry.path) == entry.keeper  # noqa: PTH115
        inode = status.st_dev, status.st_ino
        if inode == entry.keeper_inode:
            return True
        keeper = Path(entry.keeper).lstat()
        return inode == (keeper.st_dev, keeper.st_ino)
    except OSError:
        return False


def _drop_target(entry: Entry) -> None:
    """Removes a second copy, or an empty name, of a file that is at its place."""
    remove_part(entry.target)
    target = Path(entry.target)
    with reasons():
        if os.path.lexists(target) and target.lstat().st_size:
            copy = read_file(entry.target)
            if copy is None or copy.sha256 != entry.sha256:
                raise RefusedError(f"{target} is no copy of it")
        target.unlink(missing_ok=True)
    tidy(entry)


def _put_back(entry: Entry) -> None:
    moved = read_file(entry.target)
    if moved is None or moved.sha256 != entry.sha256:
        raise RefusedError(f"{entry.target} isn't there as it was")
    place = Path(entry.path)
    with reasons():
        if os.path.lexists(place) and not (_is_our_link(entry) or _is_empty_name(entry)):
            raise RefusedError(f"something else is there now; the original is {entry.target}")
        place.unlink(missing_ok=True)
    make_folders(place.parent, Path("/"))
    move_file(entry.target, entry.path, moved)


def _is_empty_name(entry: Entry) -> bool:
    """Whether a kill left the name that ``move_file`` reserves, while it put the file back."""
    status = Path(entry.path).lstat()
    return entry.status == "undoing" and stat.S_ISREG(status.st_mode) and status.st_size == 0


def _link_or_put_back(entry: Entry) -> None:
    try:
        if entry.action == "hardlink":
            os.link(entry.keeper, entry.path, follow_symlinks=False)
        else:
            Path(entry.path).symlink_to(entry.keeper)
        sync_folder(Path(entry.path).parent)
    except OSError as exc:
        _put_back(entry)
        raise RefusedError(f"no {entry.action}: {exc.strerror or exc}") from exc
