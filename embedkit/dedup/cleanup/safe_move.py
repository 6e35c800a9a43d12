"""Reads and moves files; follows no symbolic link, overwrites nothing, loses nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.utils.atomic_write import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "RefusedError",
    "SeenFile",
    "is_writable",
    "make_folders",
    "move_file",
    "nearest_folder",
    "read_file",
    "reasons",
    "remove_empty_folders",
    "remove_part",
]

_CHUNK = 2**20


class RefusedError(Exception):
    """A file can't be acted on; the message is the reason alone. Never leaves the package."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as it was just now.

    Attributes:
        sha256: Of its bytes, hex.
        inode: Device and inode.
        nbytes: Its size.
        modified: Nanoseconds since 1970.
    """

    sha256: str
    inode: tuple[int, int]
    nbytes: int
    modified: int

    def is_still(self, path: str) -> bool:
        """Whether what lies at ``path`` is this file, not written to since, by its inode."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        return _identity(status) == (*self.inode, self.nbytes, self.modified)


def read_file(path: str) -> SeenFile | None:
    """Reads a file; None if there is none.

    Raises:
        RefusedError: It is no regular file, a folder on the way is a symbolic link, it can't be
            read, or it changed meanwhile.
    """
    folder = str(Path(path).parent)
    if os.path.realpath(folder) != folder:
        raise RefusedError("a folder on the way is a symbolic link")
    with reasons():
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise RefusedError("no regular file any more")
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(handle, "rb") as file:
            before = os.fstat(handle)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(handle)
    if not stat.S_ISREG(after.st_mode) or _identity(before) != _identity(after):
        raise RefusedError("changes while it is read")
    return SeenFile(digest, (after.st_dev, after.st_ino), after.st_size, after.st_mtime_ns)


def move_file(source: str, target: str, seen: SeenFile) -> None:
    """Moves a file to a name that must be free; to another disk by a copy that is checked.

    At every moment the file is whole under one of the two names. What a kill may leave is an empty
    file at ``target``, a part of a copy beside it (``remove_part``), or both files.

    Args:
        source: The file.
        target: Its new name, in a folder that is there.
        seen: The file as it must be still.

    Raises:
        RefusedError: It can't be moved, or isn't as it was seen; it is where it was.
    """
    with reasons():
        # An empty file reserves the name, so that renaming overwrites nothing else.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        try:
            _rename(source, target, seen)
        except BaseException:
            with suppress(FileNotFoundError):
                if Path(target).lstat().st_size == 0 and seen.nbytes:
                    Path(target).unlink()
            raise


def _rename(source: str, target: str, seen: SeenFile) -> None:
    try:
        os.rename(source, target)  # noqa: PTH104
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        _copy(source, target, seen)
    else:
        if not seen.is_still(target):  # another file took its name since it was read
            os.link(target, source, follow_symlinks=False)
            Path(target).unlink()
            raise RefusedError("changed at the last moment; it stays")
    sync_folder(Path(target).parent)
    sync_folder(Path(source).parent)


def _copy(source: str, target: str, seen: SeenFile) -> None:
    part = _part(target)
    try:
        digest = hashlib.sha256()
        with Path(source).open("rb") as reader, part.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            writer.flush()
            shutil.copystat(source, part, follow_symlinks=False)
            with suppress(PermissionError):
                os.chown(part, *_owner(source), follow_symlinks=False)
            os.fsync(writer.fileno())
        if digest.hexdigest() != seen.sha256 or not seen.is_still(source):
            raise RefusedError("changed at the last moment; it stays")
        part.rename(target)
    except BaseException:
        remove_part(target)
        raise
    sync_folder(Path(target).parent)
    Path(source).unlink()


def _owner(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_uid, status.st_gid


def _part(target: str) -> Path:
    """Where the copy for ``target`` lies until it is whole; always the same, so a rerun knows."""
    name = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    return Path(target).with_name(f".embedkit-{name}.part")


def remove_part(target: str) -> None:
    """Removes what a kill left of a copy to ``target``."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _part(target).unlink()


def nearest_folder(folder: Path) -> Path:
    """The first of a folder and those above it that is there already."""
    return next(at for at in (folder, *folder.parents) if os.path.lexists(at))


def is_writable(folder: Path) -> bool:
    """Whether files may be created in a folder and removed from it, by its permissions."""
    return os.access(folder, os.W_OK | os.X_OK)


def make_folders(folder: Path, top: Path) -> None:
    """Makes ``folder``, which is ``top`` or below it, through no symbolic link.

    Raises:
        RefusedError: A folder can't be made, or its name is taken by something else.
    """
    with reasons():
        if not top.is_dir():
            top.mkdir(parents=True, exist_ok=True)
            sync_folder(top.parent)
        at = top
        for part in folder.relative_to(top).parts:
            at /= part
            with suppress(FileExistsError):
                at.mkdir()
                sync_folder(at.parent)
            if not stat.S_ISDIR(at.lstat().st_mode):
                raise RefusedError(f"{at} is no folder")


def remove_empty_folders(folder: Path, top: Path) -> None:
    """Removes ``folder`` and those above it that are below ``top``, as far as they are empty."""
    with suppress(OSError):
        for at in (folder, *folder.parents):
            if top not in at.parents:
                return
            at.rmdir()


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def reasons() -> Iterator[None]:
    """Turns an ``OSError`` into a ``RefusedError``."""
    try:
        yield
    except FileExistsError as exc:
        raise RefusedError(f"{exc.filename2 or exc.filename} exists already") from exc
    except OSError as exc:
        raise RefusedError(exc.strerror or str(exc)) from exc
