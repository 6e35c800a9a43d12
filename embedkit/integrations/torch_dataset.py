"""A store's rows as a PyTorch dataset: memory-mapped, for any number of loader processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from embedkit.errors import StoreCorruptError
from embedkit.store import EmbeddingStore
from embedkit.store import verify as store_problems

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["StoreDataset"]

_MAPPED_SHARDS = 512  # each holds a file descriptor, of which a process often has 1024


class StoreDataset(Dataset[tuple[torch.Tensor, int]]):
    """The rows of a store: ``(embedding, label)`` each.

    An embedding is ``(D,)``, a class number is -1 where an image has no label. A shard is mapped
    when a process first needs one of its rows, and no HDF5 file stays open: the dataset can be
    pickled, forked and given to any number of workers, which share the pages in memory. A
    ``DataLoader`` fetches whole batches.

    Args:
        path: A shard file or a folder of shards.
        dtype: Of the embeddings.
        verify: Check every byte of the store first.

    Attributes:
        classes: The classes' names, sorted; a class number is a position here.
        labels: ``(N,)`` int64 class numbers, -1 where an image has no label.
        feature_dim: D.
        meta: How the rows were embedded.

    Raises:
        StoreError: There is no store at ``path``.
        StoreFormatError: It is not an embedkit store, or of a newer format.
        StoreCorruptError: It is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        verify: bool = False,
    ) -> None:
        self.path = Path(path)
        self.dtype = dtype
        with EmbeddingStore.open(self.path) as store:
            self.meta = store.meta
            self.feature_dim = store.meta.feature_dim
            names = store.labels or [""] * len(store)
            folder = self.path if self.path.is_dir() else self.path.parent
            self._shards = [folder / shard.name for shard in store.shards]
            self._starts = np.cumsum([0, *(shard.embedded for shard in store.shards)])
        for problem in store_problems(self.path) if verify else ():
            raise StoreCorruptError(problem)
        self.classes = tuple(sorted({name for name in names if name}))
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.labels = np.array([numbers.get(name, -1) for name in names], np.int64)
        self._maps: dict[int, NDArray[np.floating]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        rows = np.asarray(indices, np.int64)
        labels = self.labels[rows]  # which raises IndexError if there is no such row
        rows = np.where(rows < 0, rows + len(self), rows)
        embeddings = np.empty((len(rows), self.feature_dim), self.meta.dtype)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shards).tolist():
            inside = shards == number
            embeddings[inside] = self._map(number)[rows[inside] - self._starts[number]]
        tensors = torch.from_numpy(embeddings).to(self.dtype)
        return list(zip(tensors, labels.tolist(), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def ids(self) -> list[str]:
        """The N ids."""
        with EmbeddingStore.open(self.path) as store:
            return list(store.ids)

    def _map(self, number: int) -> NDArray[np.floating]:
        """The rows of a shard; the map outlives the open file."""
        if number not in self._maps:
            with EmbeddingStore.open(self._shards[number]) as shard:
                rows = np.asarray(shard.shard(0).embeddings)
            expected = (self._starts[number + 1] - self._starts[number], self.feature_dim)
            if rows.shape != expected or rows.dtype != self.meta.dtype:
                raise StoreCorruptError(f"{self._shards[number]}: changed after it was opened")
            if len(self._maps) >= _MAPPED_SHARDS:
                del self._maps[next(iter(self._maps))]
            self._maps[number] = rows
        return self._maps[number]
