"""Tells whether a path is a store or another kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.store.format import FORMAT_NAME
from embedkit.store.manifest import MANIFEST

if TYPE_CHECKING:
    import os

__all__ = ["is_store"]

_SUFFIXES = {".h5", ".hdf5"}


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is meant as a store: an HDF5 file by its name, or a folder of shards."""
    path = Path(path)
    is_file = path.suffix in _SUFFIXES and path.exists()
    return is_file or _is_folder_of_shards(path)


def _is_folder_of_shards(path: Path) -> bool:
    """Whether a folder is a store; one of images may hold a manifest too."""
    if not (path / MANIFEST).is_file():
        return False
    with (path / MANIFEST).open("rb") as file:
        return FORMAT_NAME.encode() in file.read(1024)
