"""The folder that a store is exported to for PyTorch; ``embedkit.torch`` reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.file_cache import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.store import EmbeddingStore

__all__ = [
    "DATASET_FILE",
    "EMBEDDINGS_FILE",
    "FORMAT",
    "IDS_FILE",
    "LABELS_FILE",
    "VERSION",
    "write_ids",
    "write_labels",
    "write_torch_description",
]

DATASET_FILE = "dataset.json"
EMBEDDINGS_FILE, LABELS_FILE, IDS_FILE = "embeddings.npy", "labels.npy", "ids.bin"
FORMAT, VERSION = "embedkit-torch", 1


def write_ids(store: EmbeddingStore, path: Path) -> None:
    """Writes the ids in the rows' order, each ended by a NUL byte.

    Raises:
        StoreError: It can't be written.
    """
    with atomic_file(path) as file:
        for name in store.ids:
            file.write(name.encode("utf-8", "surrogateescape") + b"\0")


def write_labels(store: EmbeddingStore, path: Path) -> tuple[str, ...]:
    """Writes the class numbers, ``(N,)`` int64, -1 where an image has no label.

    Returns:
        The classes' names, sorted.

    Raises:
        StoreError: It can't be written.
    """
    labels = store.labels or [""] * len(store)
    classes = tuple(sorted({label for label in labels if label}))
    number = {name: place for place, name in enumerate(classes)}
    with atomic_file(path) as file:
        np.save(file, np.array([number.get(label, -1) for label in labels], np.int64))
    return classes


def write_torch_description(store: EmbeddingStore, folder: Path, classes: tuple[str, ...]) -> None:
    """Writes ``dataset.json`` beside the files that it describes.

    Raises:
        StoreError: It can't be written.
    """
    files = (EMBEDDINGS_FILE, LABELS_FILE, IDS_FILE)
    told = {
        "format": FORMAT,
        "format_version": VERSION,
        "rows": len(store),
        "classes": classes,
        "features": store.meta.to_config(),
        "files": {name: file_sha256(folder / name) for name in files},
    }
    with atomic_file(folder / DATASET_FILE) as file:
        file.write(json.dumps(told, indent=1).encode())
