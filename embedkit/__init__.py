"""Image embeddings: extract, store, search and deduplicate, from the SWSL and SSL backbones on.

Importing this package loads neither torch nor faiss nor h5py: each name is imported when it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from embedkit._version import __version__
from embedkit.errors import (
    BackboneError,
    DecodeError,
    EmbedkitError,
    IndexFileError,
    SourceError,
    StoreError,
)

if TYPE_CHECKING:
    from embedkit.backbones import load_backbone
    from embedkit.classification import classify, classify_to_file, evaluate
    from embedkit.decode import DecodePolicy
    from embedkit.dedup import find_duplicates
    from embedkit.exporting import export
    from embedkit.extraction import extract
    from embedkit.index import Index, IndexSpec
    from embedkit.maps import plot
    from embedkit.outliers import find_outliers
    from embedkit.preprocess import Preprocessing
    from embedkit.searching import search, search_to_file
    from embedkit.selection import select
    from embedkit.store import EmbeddingStore, merge, verify

__all__ = [
    "BackboneError",
    "DecodeError",
    "DecodePolicy",
    "EmbeddingStore",
    "EmbedkitError",
    "Index",
    "IndexFileError",
    "IndexSpec",
    "Preprocessing",
    "SourceError",
    "StoreError",
    "__version__",
    "classify",
    "classify_to_file",
    "evaluate",
    "export",
    "extract",
    "find_duplicates",
    "find_outliers",
    "load_backbone",
    "merge",
    "plot",
    "search",
    "search_to_file",
    "select",
    "verify",
]

_HOMES = {
    "DecodePolicy": "embedkit.decode",
    "EmbeddingStore": "embedkit.store",
    "Index": "embedkit.index",
    "IndexSpec": "embedkit.index",
    "Preprocessing": "embedkit.preprocess",
    "classify": "embedkit.classification",
    "classify_to_file": "embedkit.classification",
    "evaluate": "embedkit.classification",
    "export": "embedkit.exporting",
    "extract": "embedkit.extraction",
    "find_duplicates": "embedkit.dedup",
    "find_outliers": "embedkit.outliers",
    "load_backbone": "embedkit.backbones",
    "merge": "embedkit.store",
    "plot": "embedkit.maps",
    "search": "embedkit.searching",
    "search_to_file": "embedkit.searching",
    "select": "embedkit.selection",
    "verify": "embedkit.store",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'embedkit' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
