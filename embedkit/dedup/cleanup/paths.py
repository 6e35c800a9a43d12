"""Ids and files: which file an id names, and names in a form that spreadsheets leave alone."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.sources.id_lookup import archive_of, place_of
from embedkit.sources.naming import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MISSING", "PlainFile", "decode_name", "encode_name", "find_file", "is_plain"]

MISSING = "no such file"
_FORMULA = frozenset("=+-@")  # a cell that begins so is a formula to a spreadsheet
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
    """
    name = image_id.removeprefix("file://")
    if is_url(name):
        return "a URL"
    archive = archive_of(name, roots)
    member = "" if archive is None else name[len(archive) :]
    place = Path(place_of(archive or name, roots))
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


def is_plain(path: str) -> bool:
    """Whether a path is absolute and in its shortest form."""
    return path.startswith("/") and str(Path(path)) == path and ".." not in Path(path).parts


def encode_name(name: str) -> str:
    """A path or id as text that spreadsheets leave alone; ``decode_name`` gives it back.

    Bytes that aren't UTF-8, what can't be printed, spaces at the ends, ``%`` itself, and at the
    beginning what makes a formula, are written as ``%`` and two hexadecimal digits a byte.
    """
    last = len(name) - 1
    return "".join(
        _escape(letter)
        if letter == "%"
        or not letter.isprintable()
        or (letter in _FORMULA and at == 0)
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
