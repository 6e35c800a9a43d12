"""Reads the ids of selected images from their stores, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.store import EmbeddingStore
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SelectedLines", "selected_lines"]

_PIECE = 65536  # lines


class SelectedLines(NamedTuple):
    """Some lines of a selection in the order of the images.

    Attributes:
        store: The store.
        places: ``(n,)`` where they stand in the selection.
        rows: ``(n,)`` their rows in the store.
        ids: n ids.
    """

    store: Path
    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    ids: list[str]


def selected_lines(
    stores: Sequence[Path], rows: NDArray[np.int64], classes: NDArray[np.int64]
) -> Iterator[SelectedLines]:
    """The lines of a selection by store and row, in pieces of bounded size.

    Args:
        stores: The stores.
        rows: ``(n,)`` row numbers, counted through all stores.
        classes: ``(n,)`` class numbers.

    Raises:
        StoreError: A store can't be read.
    """
    order = np.lexsort((classes, rows))
    rows, first = rows[order], 0
    stage = Stage("reading ids", len(rows), unit="lines")
    for path in stores:
        with EmbeddingStore.open(path) as store:
            begin, end = np.searchsorted(rows, (first, first + len(store))).tolist()
            for start in range(begin, end, _PIECE):
                some = slice(start, min(start + _PIECE, end))
                mine = rows[some] - first
                yield SelectedLines(path, order[some], mine, _ids(store, mine))
                stage.add(len(mine))
            first += len(store)


def _ids(store: EmbeddingStore, rows: NDArray[np.int64]) -> list[str]:
    """The ids of some rows, ascending; read in runs, since reading one by one is slow."""
    out: list[str] = []
    for start in range(int(rows[0]), int(rows[-1]) + 1, _PIECE):
        low, high = np.searchsorted(rows, (start, start + _PIECE)).tolist()
        if low < high:
            base = int(rows[low])
            read = store.ids[base : int(rows[high - 1]) + 1]
            out += [read[row - base] for row in rows[low:high].tolist()]
    return out
