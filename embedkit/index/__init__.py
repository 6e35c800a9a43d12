"""Nearest-neighbour indexes: choose, build, tune, search, update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.index import openmp_wait  # noqa: F401  # before anything loads faiss
from embedkit.index.auto_select import Choice
from embedkit.index.index import Index
from embedkit.index.manifest import OperatingPoint
from embedkit.index.spec import IndexSpec, Metric
from embedkit.index.store_index import StoreIndex
from embedkit.store.detect import is_store

if TYPE_CHECKING:
    import os

__all__ = [
    "Choice",
    "Index",
    "IndexSpec",
    "Metric",
    "OperatingPoint",
    "Searchable",
    "StoreIndex",
    "open_searchable",
]

Searchable = Index | StoreIndex
"""What ``search`` searches."""


def open_searchable(path: str | os.PathLike[str]) -> Searchable:
    """Opens an index, or a store, which is then searched exactly.

    Raises:
        IndexFileError: There is neither at ``path``, or the index can't be used.
        IndexCorruptError: A file of the index is damaged.
        IndexMismatchError: A store that the index needs has changed.
        StoreError: The store can't be read.
    """
    return StoreIndex(path) if is_store(path) else Index.open(path)
