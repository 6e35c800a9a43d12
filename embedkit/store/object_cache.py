"""Local copies of stores and indexes on object stores, in embedkit's cache, which is bounded.

``s3://bucket/emb/shard-000000.h5`` lies at ``objects/VERSION/s3/bucket/emb/shard-000000.h5``. The
version is that of the folder's manifest, or of the one file: a copy never changes, and two versions
never mix. Of a folder only the manifest is fetched when it is opened; each other file is when it is
first used, and is compared with the SHA-256 that the manifest states.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.backbones.registry import cache_folder
from embedkit.errors import StoreCorruptError, StoreError
from embedkit.sources.io import transfer
from embedkit.store.manifest import MANIFEST
from embedkit.utils.atomic_write import atomic_file, commit_bytes
from embedkit.utils.urls import local_path, object_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "address_of", "cached", "exists", "fetched_again", "find", "local_files", "refuse_copy",
    "with_addresses",
]  # fmt: skip

_FILES = (".h5", ".hdf5")
_VERSION = 16
_SIZE_VARIABLE = "EMBEDKIT_OBJECT_CACHE_GB"
_SIZE_GB = 50.0
_IN_USE_SECONDS = 60.0  # a copy that was used so lately is kept
_kept: set[Path] = set()  # copies that this process needs all at once


def find(path: str | os.PathLike[str]) -> Path | None:
    """Where a store or an index lies on this machine; None if nothing is at a URL.

    A local path is given back as it is, whether it exists or not. So is a copy, while it is whole.

    Raises:
        StoreError: The storage can't be reached or refuses.
    """
    url = object_url(path) or _lost_copy(Path(path))
    if url is None:
        return local_path(path)
    if {"..", "."} & {*url.split("/")}:  # it would lie elsewhere in the cache
        raise StoreError(f"{url}: has '..' or '.' in its path; give it without")
    if url.lower().endswith(_FILES) and (state := transfer.state_of(url)):
        return _copy_of_file(url, state)
    manifest = transfer.read(f"{url}/{MANIFEST}")
    if manifest is None:
        return None
    folder = _place(url, hashlib.sha256(manifest).hexdigest())
    if not _used(folder / MANIFEST):
        folder.mkdir(parents=True, exist_ok=True)
        commit_bytes(folder / MANIFEST, manifest)
    return folder


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something lies at a path, or a store or an index at a URL; errors as ``find``."""
    found = find(path)
    return found is not None and found.exists()


def cached(path: Path, sha256: str, *, keep: bool = False) -> Path:
    """A file of a folder, downloaded if the folder is a copy that lacks it.

    Args:
        path: The file; a local one is given back as it is.
        sha256: Its SHA-256 (hex) by the manifest.
        keep: Whether this process keeps it, even if its copies take more than the cache's size.

    Raises:
        StoreError: It can't be downloaded.
        StoreCorruptError: It isn't the file that the manifest states.
    """
    url = address_of(path)
    if url is None:
        return path
    if keep:
        _kept.add(path)
    if not _used(path):
        state = transfer.state_of(url)
        if state is None:
            raise StoreError(f"{url}: not there, though {MANIFEST} names it")
        if _download(url, state, path) != sha256:
            path.unlink()
            raise StoreCorruptError(
                f"{url}: isn't the file that {MANIFEST} names (SHA-256): it was damaged, or is "
                "being replaced; open it again when it is whole"
            )
    return path


def fetched_again(path: Path, sha256: str) -> Path:
    """As `cached`, but what lies at the URL now is downloaded: a copy may be better than that."""
    if address_of(path):
        path.unlink(missing_ok=True)
    return cached(path, sha256)


def local_files(paths: Iterable[Path], digests: Iterable[str]) -> list[Path]:
    """All files of a folder, as `cached` and to be kept while this process runs."""
    return [cached(path, digest, keep=True) for path, digest in zip(paths, digests, strict=True)]


def address_of(path: Path) -> str | None:
    """The URL of a copy; None for any other path."""
    root = _root()
    if not path.is_relative_to(root):
        return None
    parts = path.relative_to(root).parts
    return f"{parts[1]}://{'/'.join(parts[2:])}" if len(parts) > 2 else None


def refuse_copy(path: Path) -> None:
    """Refuses to change what lies at a URL: a change of its copy would be lost.

    Raises:
        StoreError: The path is that of a copy.
    """
    if url := address_of(path):
        raise StoreError(f"{url}: can only be read; copy the store to a local path to change it")


def with_addresses(text: str) -> str:
    """A text with the URL in the place of each path of a copy."""
    copies = re.escape(str(_root())) + rf"/[0-9a-f]{{{_VERSION}}}/([\w+.-]+)/"
    return re.sub(copies, r"\1://", text)


def _root() -> Path:
    return cache_folder().absolute() / "objects"


def _place(url: str, version: str) -> Path:
    """Where the copy of one version belongs."""
    scheme, _, rest = url.partition("://")
    return _root() / version[:_VERSION] / scheme / rest


def _lost_copy(path: Path) -> str | None:
    """The URL of a copy that was removed to make room; it may be fetched again."""
    return None if path.exists() else address_of(path)


def _copy_of_file(url: str, state: transfer.ObjectState) -> Path:
    path = _place(url, hashlib.sha256((state.version or "").encode()).hexdigest())
    if state.version is None or not _used(path):
        _download(url, state, path)
        if transfer.state_of(url) != state:
            path.unlink()
            raise StoreError(f"{url}: was replaced while it was downloaded; open it again")
    return path


def _used(path: Path) -> bool:
    """Whether a copy is there; notes that it was used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _download(url: str, state: transfer.ObjectState, path: Path) -> str:
    if state.nbytes is None:
        raise StoreError(f"{url}: the server doesn't say its size; download it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(state.nbytes)
    with atomic_file(path) as file:
        return transfer.download(url, state.nbytes, file)


def _make_room(nbytes: int) -> None:
    """Removes copies until a new one fits, those that weren't used for longest first."""
    copies = sorted(_copies(), reverse=True)
    limit, newest = _limit() - nbytes, time.time() - _IN_USE_SECONDS
    for used, size, path in copies:
        limit -= size
        if limit < 0 and used < newest and path not in _kept:
            path.unlink(missing_ok=True)


def _copies() -> Iterator[tuple[float, int, Path]]:
    """When each copy was used last, its size and its path."""
    for folder, _, names in os.walk(_root()):
        for name in names:
            try:
                found = (path := Path(folder, name)).stat()
            except FileNotFoundError:  # another process made room
                continue
            yield found.st_mtime, found.st_size, path


def _limit() -> float:
    """The cache's size, bytes.

    Raises:
        StoreError: The environment variable is no number from 0.
    """
    text = os.environ.get(_SIZE_VARIABLE, "")
    try:
        size = float(text or _SIZE_GB)
    except ValueError:
        size = -1
    if not size >= 0:
        raise StoreError(f"{_SIZE_VARIABLE}={text!r} is no number of gigabytes from 0")
    return size * 1e9
