"""A store's rows as a PyTorch dataset: memory-mapped, for any number of loader processes.

``embedkit export STORE --to torch`` writes what ``StoreDataset`` reads::

    photos.torch/
      embeddings.npy   (N, D), the store's dtype
      labels.npy       (N,) int64 class numbers, -1 where an image has none
      ids.bin          the ids in the rows' order, each ended by a NUL byte
      dataset.json     the classes' names, how the rows were embedded, SHA-256 of the files
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.exporters.torch_format import (
    DATASET_FILE,
    EMBEDDINGS_FILE,
    FORMAT,
    IDS_FILE,
    LABELS_FILE,
    VERSION,
)
from embedkit.store.format import StoreMeta
from embedkit.utils.file_cache import file_sha256

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["StoreDataset"]


class StoreDataset(Dataset[tuple[torch.Tensor, int]]):
    """The rows of an exported store: ``(embedding, label)`` each.

    An embedding is ``(D,)`` float32, a class number is -1 where an image has no label. Files are
    mapped when a row is first asked for in a process, so it can be pickled, forked and given to
    any number of workers, which share the pages in memory. A ``DataLoader`` fetches whole batches.

    Args:
        path: The folder that ``embedkit export --to torch`` wrote.
        verify: Whether the files' hashes are checked first, which reads them all.

    Attributes:
        classes: The classes' names, in the order of their numbers.
        feature_dim: D.
        meta: How the rows were embedded.

    Raises:
        StoreError: There is no export.
        StoreFormatError: It isn't one, or of a newer format.
        StoreCorruptError: A file isn't the one that was written.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = False) -> None:
        self.path = Path(path)
        told = _read_description(self.path / DATASET_FILE)
        self.classes: tuple[str, ...] = tuple(told["classes"])
        self.meta = StoreMeta.from_config(told["features"])
        self.feature_dim = self.meta.feature_dim
        self._rows = int(told["rows"])
        self._maps: tuple[NDArray[np.floating], NDArray[np.int64]] | None = None
        for name, digest in told["files"].items() if verify else ():
            if file_sha256(self.path / Path(name).name) != digest:
                raise StoreCorruptError(f"{self.path / name}: not the file that was exported")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        embeddings, labels = self._open()
        row = np.asarray(embeddings[index], np.float32)
        return torch.from_numpy(row.copy()), int(labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        embeddings, labels = self._open()
        rows = torch.from_numpy(embeddings[list(indices)].astype(np.float32))
        return list(zip(rows, labels[list(indices)].tolist(), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(N,)`` class numbers, -1 where an image has none."""
        return self._open()[1]

    def ids(self) -> list[str]:
        """The N ids."""
        names = (self.path / IDS_FILE).read_bytes().split(b"\0")[:-1]
        return [name.decode("utf-8", "surrogateescape") for name in names]

    def _open(self) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        if self._maps is None:
            try:
                embeddings = _load(self.path / EMBEDDINGS_FILE)
                labels = _load(self.path / LABELS_FILE)
            except (OSError, ValueError) as exc:
                raise StoreError(f"{self.path}: can't be read: {exc}") from exc
            if embeddings.shape != (self._rows, self.feature_dim) or labels.shape != (self._rows,):
                raise StoreCorruptError(f"{self.path}: its files don't fit together")
            self._maps = embeddings, labels
        return self._maps


def _load(path: Path) -> NDArray[Any]:
    """A file as a memory map; what has no bytes can't be mapped."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if _has_rows(path) else None)
    return array


def _has_rows(path: Path) -> bool:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return bool(np.prod(shape))


def _read_description(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise StoreError(
            f"{path.parent}: no export for torch (no {path.name} in the folder)"
        ) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise StoreFormatError(f"{path}: can't be read: {exc}") from exc
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise StoreFormatError(f"{path}: not an export for torch")
    if told.get("format_version") != VERSION:
        raise StoreFormatError(f"{path}: format {told.get('format_version')!r} is a newer one")
    if not {"classes", "features", "rows", "files"} <= told.keys():
        raise StoreFormatError(f"{path}: not an export for torch")
    return told
