"""Ids and files: which file an id names, and names in a form that spreadsheets leave alone."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import DedupError
from embedkit.sources.id_lookup import archive_of, folder_of, is_one_file, place_of, places_of
from embedkit.sources.naming import is_url
from embedkit.utils.text import begins_formula
from embedkit.utils.working_directory import working_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.dedup.cleanup.plan_csv import Plan

__all__ = [
    "MISSING",
    "PlainFile",
    "decode_name",
    "encode_name",
    "find_file",
    "is_plain",
    "refuse_other_folder",
]

MISSING = "no such file"
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A file that may be moved or linked, or a member of an archive, which may be left out.

    Attributes:
        path: Absolute; the folders on the way are no symbolic links. Of a member, the archive's,
            ``#`` and the member's name.
        nbytes: The file's size, or the archive's.
        modified: When that was changed last, nanoseconds since 1970.
        inode: Device and inode: the same for two names of one file.
        is_member: Whether it is inside an archive.
    """

    path: str
    nbytes: int
    modified: int
    inode: tuple[int, int]
    is_member: bool = False


def find_file(image_id: str, roots: Sequence[Path]) -> PlainFile | str:
    """The file that an id names, or in words why there is none that can be acted on.

    Args:
        image_id: Of a store.
        roots: The folders that relative ids may start from.

    Raises:
        DedupError: It exists in several of them, as several files.
    """
    name = image_id.removeprefix("file://")
    if is_url(name):
        return "a URL"
    archive = archive_of(name, roots)
    member = "" if archive is None else name[len(archive) :]
    place = Path(_only_place(archive or name, roots))
    path = Path(os.path.realpath(place.parent)) / place.name
    if not is_plain(f"{path}{member}"):
        return "inside an archive, under a name that can't be written into a plan"
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return MISSING
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    inode = status.st_dev, status.st_ino
    full = f"{path}{member}"
    return PlainFile(full, status.st_size, status.st_mtime_ns, inode, is_member=bool(member))


def _only_place(name: str, roots: Sequence[Path]) -> str:
    """The only place of an id, or the likeliest one if it is nowhere."""
    places = places_of(name, roots)
    if len(places) > 1:
        raise DedupError(_ambiguous(name, places))
    return places[0] if places else place_of(name, roots)


def refuse_other_folder(plan: Plan, root: str | os.PathLike[str] | None = None) -> None:
    """Refuses a plan that is of another folder than the one that it would be applied in.

    A copied plan names the files that it was made of. Where its relative ids name other files at
    hand, nobody knows which are meant.

    Args:
        plan: What would be applied.
        root: The folder that its relative ids start from; None takes the working folder and the
            plan's own.

    Raises:
        DedupError: An id names another file there; or with ``root``, its own file isn't there.
    """
    here = [Path(root)] if root is not None else [working_directory(), plan.path.absolute().parent]
    for row in plan.rows:
        name = row.id.removeprefix("file://")
        if not os.path.lexists(row.path) or is_url(name) or Path(name).is_absolute():
            continue
        start = folder_of(row.path, name)
        without_prefix = row.path[len(str(start)) :].lstrip("/")
        tails = [name, without_prefix] if without_prefix else [name]
        for folder in filter(None, here):
            places = [str(folder / tail) for tail in tails]
            if any(is_one_file(row.path, place) for place in places):
                continue
            if root is not None:
                raise DedupError(
                    f"{plan.path}: is of the files in {start}, such as {row.path}, and not of "
                    f"those in {folder}: make a plan for these"
                )
            for place in filter(os.path.lexists, places):
                raise DedupError(f"{plan.path}: {_ambiguous(name, (row.path, place))}")


def _ambiguous(name: str, places: Sequence[str]) -> str:
    folders = " and in ".join(str(folder_of(place, name)) for place in places)
    return f"{name} is in {folders}, as different files; root=FOLDER says which folder is meant"


def is_plain(path: str) -> bool:
    """Whether a path is absolute and in its shortest form."""
    return path.startswith("/") and str(Path(path)) == path and ".." not in Path(path).parts


def encode_name(name: str) -> str:
    """A path or id as text that spreadsheets leave alone; ``decode_name`` gives it back.

    Bytes that aren't UTF-8, what can't be printed, spaces at the ends, ``%`` itself, and at the
    beginning what makes a formula, are written as ``%`` and two hexadecimal digits a byte.
    """
    last, is_formula = len(name) - 1, begins_formula(name)
    return "".join(
        _escape(letter)
        if letter == "%"
        or not letter.isprintable()
        or (at == 0 and is_formula)
        or (letter == " " and at in (0, last))
        else letter
        for at, letter in enumerate(name)
    )


def decode_name(text: str) -> str:
    """Reads a name that ``encode_name`` wrote.

    Raises:
        ValueError: A ``%`` isn't followed by two hexadecimal digits, or a byte is zero.
    """
    raw = text.encode("utf-8", "surrogateescape")
    if raw.count(b"%") != len(_ESCAPE.findall(raw)):
        raise ValueError("a % that isn't followed by two hexadecimal digits")
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)
    if b"\0" in raw:
        raise ValueError("a zero byte")
    return raw.decode("utf-8", "surrogateescape")


def _escape(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
