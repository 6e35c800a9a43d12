"""The class of each row: its label, or the most probable class by the stored classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.classification.head import likeliest
from embedkit.analysis.clustering.assignment import applicable_head
from embedkit.errors import StoreError
from embedkit.retrieval.metadata import column_pieces
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows

__all__ = ["classes_of"]

_BLOCK_BYTES = 32 * 2**20


def classes_of(
    rows: StoreRows, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The class of each row as a number, and the classes' names."""
    if any(store.has_labels for store in rows.stores):
        known: dict[str, int] = {}
        pieces = [
            np.fromiter((known.setdefault(one, len(known)) for one in piece), np.int32, len(piece))
            for store in rows.stores
            for piece in column_pieces(store, "label")
        ]
        return np.concatenate(pieces)[numbers], tuple(known)
    head = applicable_head(rows)
    if head is None:
        raise StoreError(
            f"{rows.stores[0].path}: per_class needs classes, but it has neither labels nor a "
            "classifier that applies to its rows; `embedkit label` puts labels in"
        )
    out = np.empty(len(numbers), np.int32)
    step = max(1, _BLOCK_BYTES // (4 * max(rows.dim, len(head.class_names))))
    stage = Stage("classifying", len(numbers), unit="images")
    for start in range(0, len(numbers), step):
        part = rows.read(numbers[start : start + step])
        out[start : start + step] = likeliest(part, head, 1)[0][:, 0]
        stage.add(len(part))
    return out, head.class_names
