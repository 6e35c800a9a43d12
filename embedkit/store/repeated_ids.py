"""Finds ids that several rows of some stores have."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.store.store import EmbeddingStore

__all__ = ["refuse_repeated_ids", "repeated_ids"]

_SHOWN = 3


def repeated_ids(stores: Sequence[EmbeddingStore]) -> dict[str, list[int]]:
    """Ids that occur more than once, and their rows, numbered through the stores, ascending.

    Takes 16 bytes of memory per row, and more only for ids that do repeat.
    """
    starts = np.cumsum([0, *map(len, stores)])
    hashes = np.empty(starts[-1], np.int64)
    for first, store in zip(starts.tolist(), stores, strict=False):
        hashes[first : first + len(store)] = np.fromiter(map(hash, store.ids), np.int64, len(store))
    order = np.argsort(hashes, kind="stable")
    is_equal = np.diff(hashes[order]) == 0
    pairs = np.flatnonzero(is_equal)
    found: dict[str, list[int]] = defaultdict(list)
    for row in np.unique(order[np.concatenate([pairs, pairs + 1])]).tolist():
        number = int(np.searchsorted(starts, row, side="right")) - 1
        found[stores[number].ids[row - int(starts[number])]].append(row)
    return {name: rows for name, rows in found.items() if len(rows) > 1}


def refuse_repeated_ids(stores: Sequence[EmbeddingStore], way_out: str) -> None:
    """Refuses stores that have an id twice, within one or in several.

    Raises:
        StoreError: They have; it names the stores and some of the ids.
    """
    repeated = repeated_ids(stores)
    if not repeated:
        return
    starts = np.cumsum([0, *map(len, stores)])
    rows = next(iter(repeated.values()))
    paths = [stores[int(np.searchsorted(starts, row, side="right")) - 1].path for row in rows[:2]]
    where = " and ".join(dict.fromkeys(map(str, paths)))
    examples = ", ".join(list(repeated)[:_SHOWN])
    more = ", ..." if len(repeated) > _SHOWN else ""
    ids = "1 id occurs" if len(repeated) == 1 else f"{len(repeated)} ids occur"
    raise StoreError(f"{where}: {ids} more than once ({examples}{more}); {way_out}")
