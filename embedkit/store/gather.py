"""Reads scattered rows of one store or several, in any order, by few reads of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.store.format import RowBlock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.store.reader import ShardFile
    from embedkit.store.store import EmbeddingStore

__all__ = ["gather", "ids_at"]

_GAP = 256  # rows that are read in vain rather than by another read


def gather(stores: Sequence[EmbeddingStore], rows: NDArray[np.int64]) -> RowBlock:
    """Some rows with ids, labels and image facts; the embeddings are checked.

    Args:
        stores: One store or more, of the same settings.
        rows: ``(n,)``, n >= 1, numbered through the stores, in the order of the result.

    Raises:
        StoreCorruptError: The checksum of some of the rows is wrong.
    """
    parts, places = [], []
    for where, shard, inside in _slices(stores, rows):
        block = shard.block(int(inside[0]), int(inside[-1]) + 1)
        mask = np.zeros(len(block), np.bool_)
        mask[inside - inside[0]] = True
        parts.append(block.where(mask))
        places.append(where)
    joined, order = RowBlock.concatenate(parts), np.argsort(np.concatenate(places))
    return joined if (np.diff(order) == 1).all() else _reordered(joined, order)


def ids_at(store: EmbeddingStore, rows: NDArray[np.int64]) -> list[bytes]:
    """The ids of some rows, in the given order, as stored."""
    found = [b""] * len(rows)
    for where, shard, inside in _slices([store], rows):
        names = shard.ids(int(inside[0]), int(inside[-1]) + 1)
        for place, row in zip(where.tolist(), (inside - inside[0]).tolist(), strict=True):
            found[place] = names[row]
    return found


def _slices(
    stores: Sequence[EmbeddingStore], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], ShardFile, NDArray[np.int64]]]:
    """Rows that lie close together: their places in ``rows``, the shard, the rows in it.

    The rows of each slice are ascending and unique.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    shards = [(store, number) for store in stores for number in range(len(store.shards))]
    sizes = [store.shards[number].embedded for store, number in shards]
    starts = np.cumsum([0, *sizes])
    numbers = np.searchsorted(starts, ascending, side="right") - 1
    cut = (np.diff(ascending) > _GAP) | (np.diff(numbers) > 0)
    for part in np.split(np.arange(len(rows)), np.flatnonzero(cut) + 1):
        if len(part):
            number = int(numbers[part[0]])
            store, own = shards[number]
            yield order[part], store.shard(own), ascending[part] - starts[number]


def _reordered(block: RowBlock, order: NDArray[np.int64]) -> RowBlock:
    places = order.tolist()
    return RowBlock(
        block.embeddings[order],
        [block.ids[place] for place in places],
        {name: column[order] for name, column in block.images.items()},
        [block.labels[place] for place in places] if block.labels else (),
    )
