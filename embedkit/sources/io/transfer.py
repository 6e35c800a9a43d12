"""Whole objects of object stores: states, downloads, atomic uploads; through fsspec."""

from __future__ import annotations

import hashlib
import re
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from embedkit.errors import MissingExtraError, SourceError, StoreError
from embedkit.sources.io import remote
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "ObjectState", "create", "delete", "delete_folder", "download", "list_names", "put", "read",
    "refuse_unwritable", "state_of", "upload",
]  # fmt: skip

_CHUNK = 8 * 2**20
_THREADS = 4
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
"""Schemes where an object appears when the whole of it has arrived, and not before."""
_CREDENTIALS = "check the storage's credentials, such as AWS_PROFILE or AWS_ACCESS_KEY_ID"


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object as it is now.

    Attributes:
        nbytes: Its size; None if the storage doesn't say.
        version: Changes with its content: an ETag or a time, with the size; None if the storage
            says neither.
    """

    nbytes: int | None
    version: str | None


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    """Maps what a storage answers to a ``StoreError``: the URL, the reason, the way out."""
    try:
        yield
    except SourceError as exc:  # no such scheme
        raise StoreError(str(exc)) from exc
    except MissingExtraError:
        raise
    except FileNotFoundError as exc:
        why = remote.text_of(exc) if _is_of_bucket(exc) else "no such file or folder"
        raise StoreError(f"{url}: {why}") from exc
    except PermissionError as exc:
        reason = f"permission denied ({remote.text_of(exc)})"
        raise StoreError(f"{url}: {reason}; {_CREDENTIALS}") from exc
    except OSError as exc:
        reason = " ".join(str(exc.strerror or exc).split())
        way_out = f"; {_CREDENTIALS}" if "credentials" in reason.lower() else ""
        raise StoreError(f"{url}: {reason}{way_out}") from exc


def _is_of_bucket(error: FileNotFoundError) -> bool:
    """Whether the bucket is missing; the backends say so in words alone."""
    return re.search(r"\bbucket\b.*\b(not|no)\b", str(error), re.IGNORECASE) is not None


def refuse_unwritable(url: str) -> None:
    """Refuses a URL where a file could be seen half written, or without a bucket.

    Raises:
        StoreError: The storage isn't one of the object stores, or has no such bucket.
        MissingExtraError: Its backend isn't installed.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in _ATOMIC:
        raise StoreError(
            f"{url}: stores and indexes are written to s3://, gs:// and az:// only; write to a "
            "local path, then copy it there"
        )
    with _storage_errors(url):
        filesystem, path = remote.filesystem_of(url)
        try:
            remote.retry(lambda: filesystem.info(path))
        except FileNotFoundError as exc:
            if _is_of_bucket(exc):
                raise


def state_of(url: str) -> ObjectState | None:
    """What lies at a URL now; None for nothing and for a folder.

    Raises:
        StoreError: The storage can't be reached or refuses.
    """
    with _storage_errors(url), suppress(FileNotFoundError):
        filesystem, path = remote.filesystem_of(url)
        filesystem.invalidate_cache()
        info = remote.retry(lambda: filesystem.info(path))
        if info["type"] != "directory":
            version, size = remote.version_of(info), info.get("size")
            return ObjectState(size, version and f"{version} {size}")
    return None


def list_names(url: str) -> list[str]:
    """The names of what lies right below a URL, sorted; none if there is nothing.

    Raises:
        StoreError: The storage can't be reached or refuses.
    """
    with _storage_errors(url), suppress(FileNotFoundError):
        remote.filesystem_of(url)[0].invalidate_cache()
        return [entry.name for entry in remote.list_folder(url)]
    return []


def read(url: str, nbytes: int | None = None) -> bytes | None:
    """A small object, or its first bytes; None if there is nothing.

    Raises:
        StoreError: The storage can't be reached or refuses.
    """
    with _storage_errors(url), suppress(FileNotFoundError):
        filesystem, path = remote.filesystem_of(url)
        return bytes(remote.retry(lambda: filesystem.cat_file(path, start=0, end=nbytes)))
    return None


def download(url: str, nbytes: int, file: IO[bytes]) -> str:
    """Reads an object in ranges, several at once; gives the SHA-256 (hex) of what was written.

    Raises:
        StoreError: It can't be read, or is shorter.
    """
    digest = hashlib.sha256()

    def fetch(start: int) -> bytes:
        return remote.read_range(url, start, min(start + _CHUNK, nbytes))

    starts = range(0, nbytes, _CHUNK)
    with _storage_errors(url), closing(in_order(fetch, starts, _THREADS)) as parts:
        for start, data in track(parts, "downloading", nbytes, unit="bytes", size=_length):
            if len(data) != min(_CHUNK, nbytes - start):
                raise StoreError(f"{url}: ends before its last byte; it is being replaced")
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _length(part: tuple[int, bytes]) -> int:
    return len(part[1])


def upload(path: Path, url: str, *, replace: bool = True) -> bool:
    """Copies a file to a URL, where it appears when it is whole.

    Args:
        path: The file.
        url: Where to.
        replace: Whether it replaces what is there.

    Returns:
        False if something is there that isn't replaced.

    Raises:
        StoreError: It can't be written.
    """
    mode = {} if replace else {"mode": "create"}
    with _storage_errors(url), suppress(FileExistsError):
        filesystem, target = remote.filesystem_of(url)
        remote.retry(lambda: filesystem.put_file(str(path), target, **mode))
        return True
    return False


def put(url: str, content: bytes) -> None:
    """Writes a small object; replaces what is there.

    Raises:
        StoreError: It can't be written.
    """
    with _storage_errors(url):
        filesystem, target = remote.filesystem_of(url)
        remote.retry(lambda: filesystem.pipe_file(target, content))


def create(url: str, content: bytes) -> bool:
    """Writes a small object if nothing is there; of several writers one alone gets True.

    Raises:
        StoreError: It can't be written.
    """
    with _storage_errors(url), suppress(FileExistsError):
        filesystem, target = remote.filesystem_of(url)
        remote.retry(lambda: filesystem.pipe_file(target, content, mode="create"))
        return True
    return False


def delete(url: str) -> None:
    """Deletes an object, if it is there.

    Raises:
        StoreError: It can't be deleted.
    """
    with _storage_errors(url), suppress(FileNotFoundError):
        filesystem, path = remote.filesystem_of(url)
        filesystem.invalidate_cache()
        remote.retry(lambda: filesystem.rm_file(path))


def delete_folder(url: str) -> None:
    """Deletes all objects below a URL.

    Raises:
        StoreError: They can't be deleted.
    """
    with _storage_errors(url), suppress(FileNotFoundError):
        filesystem, path = remote.filesystem_of(url)
        filesystem.invalidate_cache()
        remote.retry(lambda: filesystem.rm(path, recursive=True))
