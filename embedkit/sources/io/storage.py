"""Reads bytes from local files and URLs with the same functions.

Local paths go straight to the operating system; URLs go to fsspec in :mod:`.remote`. Whatever
fails comes as an ``OSError`` whose ``strerror`` is a reason in one line.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal
from urllib.parse import unquote

from embedkit.sources.io import remote
from embedkit.sources.naming import is_url

if TYPE_CHECKING:
    from embedkit.sources.io.remote import Entry
    from embedkit.types import ImageRecord

__all__ = [
    "TooLargeError",
    "check_size",
    "exists",
    "file_type",
    "is_source_error",
    "join",
    "list_folder",
    "local_path",
    "local_url",
    "open_local",
    "open_random",
    "read_range",
    "read_whole",
    "reason_of",
    "size_and_time",
]

_FILE_SCHEME = "file://"
_CHUNK = 2**20


_LOST = {
    getattr(errno, name)
    for name in (
        *("EIO", "ENXIO", "ENODEV", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ESHUTDOWN", "ECONNRESET"),
        *("ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}
"""What a disk, a share or a server answers that is out of order or away."""


class TooLargeError(OSError):
    """An image is over the limit.

    Attributes:
        nbytes: Its size.
    """

    def __init__(self, nbytes: int, limit: int) -> None:
        message = f"{nbytes} bytes, over the limit of {limit} (max_bytes)"
        super().__init__(errno.EFBIG, message)
        self.nbytes = nbytes


def local_path(path: str) -> str | None:
    """Return the path on this machine, or None where ``path`` is another's URL.

    In ``file://`` URLs, ``%20`` and the like stand for their bytes.
    """
    if path.startswith(_FILE_SCHEME):
        name = path.removeprefix(_FILE_SCHEME).removeprefix("localhost")
        return unquote(name, errors="surrogateescape")
    return None if is_url(path) else path


def local_url(path: str, like: str) -> str:
    """Write a local path as ``like`` is written: as a ``file://`` URL or as it stands."""
    return _FILE_SCHEME + path.replace("%", "%25") if like.startswith(_FILE_SCHEME) else path


def join(folder: str, name: str) -> str:
    """Join a folder's path or URL and a relative name."""
    if folder.startswith(_FILE_SCHEME):
        name = name.replace("%", "%25")
    if is_url(folder):
        return folder + name if folder.endswith("/") else f"{folder}/{name}"
    return os.path.join(folder, name)  # noqa: PTH118 - Path would drop "./" and "file://"


def reason_of(error: Exception) -> str:
    """Say in one line why a read failed."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def is_source_error(error: OSError, record: ImageRecord) -> bool:
    """Tell whether an image failed because what holds it is away: its folder, archive or server.

    Args:
        error: What reading the image raised.
        record: The image.
    """
    if not isinstance(error, FileNotFoundError):
        return error.errno in _LOST
    local = local_path(record.path)
    if local is None:  # a server that says so is there
        return False
    return record.kind != "file" or not Path(local).parent.exists()


def check_size(nbytes: int, limit: int) -> None:
    """Refuse an image over the limit.

    Raises:
        TooLargeError: ``nbytes`` is more than ``limit``.
    """
    if nbytes > limit:
        raise TooLargeError(nbytes, limit)


def file_type(path: str) -> Literal["file", "folder", "other"] | None:
    """Tell what lies at a path or URL; None for nothing.

    Raises:
        OSError: It can't be determined (no permission, no connection).
        MissingExtraError: The URL's backend isn't installed.
    """
    local = local_path(path)
    if local is None:
        return remote.file_type(path)
    try:
        mode = Path(local).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def exists(path: str) -> bool:
    """Tell whether anything can be found at a path or URL."""
    try:
        return file_type(path) is not None
    except (OSError, ValueError):
        return False


def size_and_time(path: str) -> tuple[int, int]:
    """Size of a local file (bytes) and when it was changed last (nanoseconds since 1970).

    Returns:
        -1 for both where they aren't known: of URLs and of files that can't be read.
    """
    local = local_path(path)
    if local is None:
        return -1, -1
    try:
        found = os.stat(local)  # noqa: PTH116 - names that aren't UTF-8, and speed
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def list_folder(url: str) -> list[Entry]:
    """List a remote folder, sorted by the names' bytes.

    Raises:
        OSError: The folder can't be listed.
        MissingExtraError: The URL's backend isn't installed.
    """
    return remote.list_folder(url)


def open_local(path: str) -> int:
    """Open a regular local file for reading.

    Returns:
        A file descriptor; the caller closes it.

    Raises:
        OSError: It can't be opened, or is a FIFO, a socket or a device.
    """
    # Opening a FIFO would wake its writer, so look first; O_NONBLOCK covers what changes between.
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - three times faster here
        raise OSError(errno.EINVAL, "not a regular file")
    return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))


def open_random(path: str) -> BinaryIO:
    """Open a path or URL for reading with seeks.

    Raises:
        OSError: It can't be opened.
        MissingExtraError: The URL's backend isn't installed.
    """
    local = local_path(path)
    return remote.open_random(path) if local is None else os.fdopen(open_local(local), "rb")


def read_whole(path: str, limit: int) -> bytes:
    """Read a file, never more than ``limit`` bytes of it.

    Raises:
        OSError: It can't be read, or is larger than ``limit``.
        MissingExtraError: The URL's backend isn't installed.
    """
    local = local_path(path)
    if local is None:
        data = remote.read_range(path, 0, limit + 1)
        if len(data) > limit:
            message = f"more than {limit} bytes, over the limit (max_bytes)"
            raise OSError(errno.EFBIG, message)
        return data
    descriptor = open_local(local)
    try:
        size = os.fstat(descriptor).st_size
        check_size(size, limit)
        return _read_descriptor(descriptor, size)
    finally:
        os.close(descriptor)


def read_range(path: str, start: int, stop: int) -> bytes:
    """Read the bytes ``start`` to ``stop``, fewer where the file ends before.

    Raises:
        OSError: They can't be read.
        MissingExtraError: The URL's backend isn't installed.
    """
    local = local_path(path)
    if local is None:
        return remote.read_range(path, start, stop)
    descriptor = open_local(local)
    try:
        os.lseek(descriptor, start, os.SEEK_SET)
        return _read_descriptor(descriptor, stop - start)
    finally:
        os.close(descriptor)


def _read_descriptor(descriptor: int, size: int) -> bytes:
    """Read ``size`` bytes; one call is enough on almost every file system."""
    data = os.read(descriptor, size)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (part := os.read(descriptor, min(missing, _CHUNK))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
