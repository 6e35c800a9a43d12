"""Caches features of image files in stores, keyed by the SHA-256 of each file's bytes."""

from __future__ import annotations

import logging
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import (
    DecodeError,
    NothingEmbeddedError,
    SourceError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
)
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore
from embedkit.store.verify import verify
from embedkit.utils.file_cache import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.types import ImageFailure

__all__ = ["cached_features"]

_log = logging.getLogger("embedkit")


def cached_features(
    files: Sequence[Path], folder: Path, options: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Embeds the images that no store of a folder holds yet, and reads all features from there.

    Each call that meets new images adds one store, under a name of its own, so several processes
    may use one folder; at worst two embed the same images. A file that is damaged, or no store of
    ours, is left aside with a warning.

    Args:
        files: n image files.
        folder: Folder of stores with the same ``options``; created if missing.
        options: Keyword arguments of ``extract``.

    Returns:
        ``(n, D)``.

    Raises:
        DecodeError: An image can't be read, decoded or embedded.
        SourceError: A file can't be read.
        StoreError: A store can't be written.
        BackboneError: The backbone or its weights aren't available.
    """
    keys = [_hash(file) for file in files]
    found = _find(folder, set(keys))
    missing = {key: file for key, file in zip(keys, files, strict=True) if key not in found}
    if missing:
        _extract(list(missing.values()), folder, options)
        found = _find(folder, set(keys))
    for key, file in missing.items():
        if key not in found:
            raise SourceError(f"{file}: changed while it was embedded")
    return np.stack([found[key] for key in keys])


def _hash(file: Path) -> bytes:
    try:
        return bytes.fromhex(file_sha256(file))
    except OSError as exc:
        raise SourceError(f"{file}: can't be read: {exc.strerror or exc}") from exc


def _find(folder: Path, requested: set[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """The cached features of these images, by their hashes."""
    found: dict[bytes, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("*.h5")):
        try:
            found |= _read(path, requested - found.keys())
        except (StoreCorruptError, StoreFormatError) as exc:
            _log.warning("%s; left aside, its images are embedded again (delete the file)", exc)
    return found


def _read(path: Path, requested: set[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """The features that a store has of these images, by their hashes.

    Raises:
        StoreError: It can't be read; StoreCorruptError and StoreFormatError: it is damaged.
    """
    with EmbeddingStore.open(path) as store:
        hashes = [one.tobytes() for one in store.images("content_hash")]
        rows = [row for row, key in enumerate(hashes) if key in requested]
        if not rows:
            return {}
        _check(path)
        features = np.asarray(store.take(np.array(rows, np.int64)), np.float32)
        return {hashes[row]: one for row, one in zip(rows, features, strict=True)}


def _check(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as exc:
        raise StoreError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    problem = _problem(path, status.st_mtime_ns, status.st_size)
    if problem:
        raise StoreCorruptError(problem)


@lru_cache(1024)
def _problem(path: Path, changed: int, size: int) -> str:
    """The first problem of a store, or an empty string; verified once per file version."""
    del changed, size
    return next(iter(verify(path)), "")


def _refuse(failures: Iterable[ImageFailure]) -> None:
    for failure in failures:
        raise DecodeError(failure.id, failure.reason, nbytes=failure.nbytes)


def _extract(files: Sequence[Path], folder: Path, options: Mapping[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(f"{folder}: can't be made: {exc.strerror or exc}") from exc
    names = [str(file.absolute()) + "\0" for file in files]
    with tempfile.TemporaryDirectory(prefix="embedkit-") as name:
        listed, made = Path(name, "images.txt"), Path(name, "features.h5")
        listed.write_text("".join(names), "utf-8", "surrogateescape")
        try:
            extract(listed, made, labels="none", null=True, thumbnails=False, **options)
        except NothingEmbeddedError as exc:
            _refuse(exc.failures)
            raise
        with EmbeddingStore.open(made) as store:
            _refuse(store.failures())
        # Copied under another name first, so that every .h5 file there is complete.
        target = folder / f"{secrets.token_hex(8)}.part"
        try:
            target.write_bytes(made.read_bytes())
            target.replace(target.with_suffix(".h5"))
        except OSError as exc:
            target.unlink(missing_ok=True)
            raise StoreError(f"{target}: can't be written: {exc.strerror or exc}") from exc
