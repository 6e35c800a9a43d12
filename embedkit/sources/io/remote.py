"""Reads and lists URLs through fsspec; retries, and raises ``OSError`` for every failure."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast

from embedkit.errors import EmbedkitError, MissingExtraError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Entry", "file_type", "filesystem_of", "glob_urls", "list_folder", "open_random", "read_range",
    "retry", "text_of", "version_of",
]  # fmt: skip

T = TypeVar("T")

_EXTRAS = {
    "gcs": ("gcsfs", "gcs"),
    "gs": ("gcsfs", "gcs"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
}
_DELAYS = (0.2, 0.8)
"""Seconds before the second and the third try."""
_PERMANENT = (
    EmbedkitError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    PermissionError,
    TypeError,
    ValueError,
)
_PLAIN = (FileExistsError, FileNotFoundError, PermissionError)
"""Raised as they are: the caller tells them apart."""
_VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created")
"""What the backends call the version of a file, the most exact first."""
_MAX_SKIP = 64 * 2**20
"""A server without range requests sends a file from its start; up to here that is put up with."""
_TIMEOUT_VARIABLE = "EMBEDKIT_HTTP_TIMEOUT"
_TIMEOUT = 30.0  # seconds without an answer, or without more of it
_WHOLE = 4  # times as long as that: the longest that one answer may take


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a remote folder.

    Attributes:
        name: Without the folder.
        is_folder: Whether it can be listed in turn.
        nbytes: Its size, if the listing has it.
        etag: The version of its content, if the listing has one: an ETag or a time.
    """

    name: str
    is_folder: bool
    nbytes: int | None
    etag: str | None = None


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL and the path in it.

    Raises:
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0].lower()
    try:
        options = _http_options() if scheme in ("http", "https") else {}
        filesystem, path = url_to_fs(url, **options)
    except ImportError as exc:
        if scheme in _EXTRAS:
            package, extra = _EXTRAS[scheme]
            raise MissingExtraError(package, extra, f"reading {scheme}:// addresses") from exc
        raise SourceError(f"{url}: {exc}") from exc
    except ValueError as exc:
        raise SourceError(f"{url}: {exc}") from exc
    return filesystem, str(path)


def _http_options() -> dict[str, Any]:
    """How to reach web servers: as fsspec's configuration says, and with limits on the time."""
    import aiohttp
    from fsspec.config import conf

    seconds = _http_timeout()
    limits = aiohttp.ClientTimeout(_WHOLE * seconds, sock_connect=seconds, sock_read=seconds)
    configured = conf.get("http", {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": limits, **configured}}


def _http_timeout() -> float:
    """Seconds after which a server that says nothing is given up.

    Raises:
        SourceError: The environment variable is no number over 0.
    """
    text = os.environ.get(_TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text or _TIMEOUT)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise SourceError(f"{_TIMEOUT_VARIABLE}={text!r} is no number of seconds over 0")
    return seconds


def _is_permanent(error: Exception) -> bool:
    """Tell whether another try can't help: absent, forbidden or wrong, rather than unreachable."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, _PERMANENT) or getattr(error, "errno", None) == errno.EFBIG


def retry(action: Callable[[], T]) -> T:
    """Run ``action`` up to three times; raise what it raised last as an ``OSError``.

    After the time that two unanswered requests take, there is no other try.
    """
    end = time.monotonic() + 2 * _http_timeout()
    for delay in (*_DELAYS, None):
        try:
            return action()
        # Each backend has its own exception types without a common base, so all are converted.
        except Exception as exc:
            if isinstance(exc, (EmbedkitError, *_PLAIN)):
                raise
            if _is_permanent(exc):
                raise OSError(errno.EINVAL, text_of(exc)) from exc
            if delay is None or time.monotonic() >= end:
                raise OSError(errno.EIO, text_of(exc)) from exc
            time.sleep(delay)
    raise AssertionError("unreachable")


def text_of(error: Exception) -> str:
    """Say in one line what a storage answered."""
    status = getattr(error, "status", None)
    if isinstance(error, TimeoutError):
        return f"no answer, or too slow a one ({_TIMEOUT_VARIABLE} is {_http_timeout():g} s)"
    text = f"the server answered {status}" if isinstance(status, int) else str(error)
    return " ".join(text.split()) or type(error).__name__


def file_type(url: str) -> Literal["file", "folder"] | None:
    """Tell what lies at a URL; None for nothing.

    A web address is a folder only where it ends in ``/``: a server has pages, not folders.

    Raises:
        OSError: The storage can't be reached or refuses.
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    filesystem, path = filesystem_of(url)
    if _is_http(filesystem):
        if not retry(lambda: _http_exists(filesystem, path)):
            return None
        return "folder" if path.endswith("/") else "file"
    try:
        info = retry(lambda: filesystem.info(path))
    except FileNotFoundError:
        return None
    return "folder" if info["type"] == "directory" else "file"


def _http_exists(filesystem: Any, url: str) -> bool:
    try:
        # One byte: unlike HEAD, every server answers it as it answers the read that follows.
        return _http_read(filesystem, url, 0, 1) is not None
    except FileNotFoundError:
        return False


def list_folder(url: str) -> list[Entry]:
    """List a remote folder, sorted by the names' bytes.

    Raises:
        OSError: The folder can't be listed.
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    filesystem, path = filesystem_of(url)

    def read() -> list[dict[str, Any]]:
        found = filesystem.ls(path, detail=True)
        # fsspec would keep the listing of every folder, without bound.
        filesystem.invalidate_cache(path)
        return cast(list[dict[str, Any]], found)

    entries = {}
    for info in retry(read):
        entry = _entry(info, path.rstrip("/") + "/")
        if entry is not None:
            entries[entry.name] = entry
    return sorted(entries.values(), key=lambda entry: entry.name.encode("utf-8", "surrogateescape"))


def _entry(info: dict[str, Any], base: str) -> Entry | None:
    """Read one entry of fsspec's listing; None for what doesn't lie right below ``base``.

    Web pages also link to their parents, to themselves and to other orders of the same list.
    """
    full = str(info["name"]).rstrip("/")
    name = full.removeprefix(base)
    if name == full or not name or "/" in name or (base.startswith("http") and "?" in name):
        return None
    return Entry(name, info["type"] == "directory", info.get("size"), version_of(info))


def version_of(info: dict[str, Any]) -> str | None:
    """The version of a file's content in what a backend tells of it: an ETag or a time."""
    versions = (info[key] for key in _VERSIONS if info.get(key))
    return next((str(version) for version in versions), None)


def glob_urls(pattern: str) -> list[str]:
    """Find the URLs that match a pattern, sorted by bytes.

    Raises:
        OSError: The storage can't be listed.
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    filesystem, path = filesystem_of(pattern)
    found = retry(lambda: filesystem.glob(path, detail=True))
    # The scheme and host as given, not as fsspec writes them.
    prefix = pattern[: len(pattern) - len(path.lstrip("/"))] if pattern.endswith(path) else ""
    names = [str(name) for name, info in found.items() if info["type"] != "directory"]
    urls = [
        prefix + name.lstrip("/") if prefix else filesystem.unstrip_protocol(name) for name in names
    ]
    return sorted(urls, key=lambda url: url.encode("utf-8", "surrogateescape"))


def read_range(url: str, start: int, stop: int) -> bytes:
    """Read the bytes ``start`` to ``stop`` of a URL, fewer where it ends before.

    Raises:
        OSError: They can't be read, after three tries.
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    filesystem, path = filesystem_of(url)
    if _is_http(filesystem):
        return retry(lambda: _http_read(filesystem, path, start, stop))
    return retry(lambda: _read_range(filesystem, path, start, stop))


def _read_range(filesystem: Any, path: str, start: int, stop: int) -> bytes:
    try:
        return bytes(filesystem.cat_file(path, start=start, end=stop))
    except Exception:
        # Object stores answer a range of an empty object, or past the end, with an error.
        if int(filesystem.size(path)) <= start:
            return b""
        raise


def _is_http(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "http" in ((protocol,) if isinstance(protocol, str) else protocol)


def _http_read(filesystem: Any, url: str, start: int, stop: int) -> bytes:
    from fsspec.asyn import sync

    return cast(bytes, sync(filesystem.loop, _http_get, filesystem, url, start, stop))


async def _http_get(filesystem: Any, url: str, start: int, stop: int) -> bytes:
    """Request a byte range; if the server sends the whole file, keep only the range."""
    options = dict(filesystem.kwargs)
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}
    options["headers"] = {**options.get("headers", {}), **headers}
    session = await filesystem.set_session()
    async with session.get(filesystem.encode_url(url), **options) as response:
        if response.status == 416:
            return b""
        if response.status == 404:
            raise FileNotFoundError(url)
        response.raise_for_status()
        skip = 0 if response.status == 206 else start
        if skip > _MAX_SKIP:
            raise ValueError("the server ignores range requests: download this file first")
        return await _body(response.content, skip, stop - start)


async def _body(content: Any, skip: int, length: int) -> bytes:
    """Read ``length`` bytes after ``skip`` others, holding no more than that in memory."""
    parts: list[bytes] = []
    while length and (part := await content.readany()):
        kept = part[skip : skip + length]
        skip = max(0, skip - len(part))
        length -= len(kept)
        parts.append(kept)
    return b"".join(parts)


def open_random(url: str) -> BinaryIO:
    """Open a URL for reading with seeks; each request is for 1 MiB or more.

    Raises:
        OSError: It can't be opened, or its size isn't known.
        MissingExtraError: The backend isn't installed.
        SourceError: There is no such scheme.
    """
    filesystem, path = filesystem_of(url)
    size = retry(lambda: filesystem.info(path))["size"]
    if size is None:
        raise OSError(errno.ENOTSUP, "the server doesn't report the size: download this file first")
    from embedkit.sources.io.range_file import open_ranges

    return open_ranges(
        filesystem, path, int(size), lambda start, stop: read_range(url, start, stop)
    )
