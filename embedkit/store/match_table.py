"""Matches the rows of a table to the images of a store, by ids or paths."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import SourceError
from embedkit.sources.table_files import folders_of, image_names, plain_name
from embedkit.store.label import StoredIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.store.store import EmbeddingStore

__all__ = ["match_table"]

_UNMATCHED = np.iinfo(np.int8).max


def match_table(
    store: EmbeddingStore, keys: Iterable[Sequence[str]], table: str
) -> tuple[NDArray[np.int64], int]:
    """Finds the row of a table for each image, in some 50 bytes of memory per image.

    Images are compared as ``label`` does it: by id, by name in their archive, by path below a
    folder of the source; a name that comes first in this order counts.

    Args:
        store: An open store of N images.
        keys: The names in the table, in order, some at a time.
        table: Its name, for errors.

    Returns:
        ``(N,)`` row of the table per image, -1 for none; and how many rows the table has.

    Raises:
        SourceError: Two rows have the same image, or no row has one.
    """
    hashes, rows, ranks = _names_of(store)
    entries, best = np.full(len(store), -1, np.int64), np.full(len(store), _UNMATCHED, np.int8)
    count = 0
    for names in keys:
        targets = np.fromiter(map(hash, names), np.int64, len(names))
        first = np.searchsorted(hashes, targets, side="left")
        last = np.searchsorted(hashes, targets, side="right")
        for place in np.flatnonzero(last > first).tolist():
            for at in range(int(first[place]), int(last[place])):
                row, rank, entry = int(rows[at]), int(ranks[at]), count + place
                if rank == best[row] and entries[row] != entry:
                    raise SourceError(f"{table}: several rows have the image {names[place]}")
                if rank < best[row]:
                    entries[row], best[row] = entry, rank
        count += len(names)
    if len(store) and not (entries >= 0).any():
        raise SourceError(
            f"{table}: none of the {len(store):,} images is in this table; it must hold their "
            f"ids, such as {store.ids[0]}, or their paths relative to the source (key=NAME says "
            "in which column)"
        )
    return entries, count


def _names_of(
    store: EmbeddingStore,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Hashes of all names of the images, ascending; their rows; the place of each name, 0 first."""
    folders = folders_of(store.meta.source)
    hashes, rows, ranks = array("q"), array("q"), array("b")
    for row, record in enumerate(StoredIds(store).scan()):
        for rank, name in enumerate(image_names(record, folders)):
            hashes.append(hash(plain_name(name)))
            rows.append(row)
            ranks.append(min(rank, _UNMATCHED - 1))
    found = np.asarray(hashes, np.int64)
    order = np.argsort(found, kind="stable")
    return found[order], np.asarray(rows, np.int64)[order], np.asarray(ranks, np.int8)[order]
