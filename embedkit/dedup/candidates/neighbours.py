"""The nearest rows of each row, exactly or by cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

    from embedkit.dedup.scoring.background import Whitening
    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["EXACT_ROWS", "nearest", "vectors_of"]

EXACT_ROWS = 100_000
"""More are searched in cells."""

_FEWEST_ROWS = 5000  # fewer aren't worth cells
_CELLS, _PROBED, _TRAINED = 4, 12, 50  # cells: times the square root of the rows
_ROWS_AT_ONCE = 8192


def nearest(
    rows: NDArray[np.float32],
    others: NDArray[np.float32],
    count: int,
    *,
    exact: bool | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest ones of some rows among others.

    Args:
        rows: ``(n, d)`` of unit length.
        others: ``(m, d)`` of unit length.
        count: How many.
        exact: Whether none may be missed; None: up to 100,000 others.

    Returns:
        ``(n, count)`` places in ``others``, the nearest first, and the cosines; both are -1 where
        there are no more.
    """
    found = np.full((len(rows), count), -1, np.int64)
    cosines = np.full((len(rows), count), -1, np.float32)
    if not len(rows) or not len(others):
        return found, cosines
    index = _index_of(others, exact=len(others) <= EXACT_ROWS if exact is None else exact)
    with Stage("finding the nearest images", len(rows), unit="images") as stage:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, min(start + _ROWS_AT_ONCE, len(rows)))
            cosines[part], found[part] = index.search(np.ascontiguousarray(rows[part]), count)
            stage.update(part.stop)
    cosines[found < 0] = -1
    return found, cosines


def vectors_of(rows: UnitRows, whitening: Whitening | None) -> NDArray[np.float32]:
    """All of some rows, ``(n, D)`` of unit length, or whitened."""
    parts = (part if whitening is None else whitening.apply(part) for _, part in rows.parts())
    taken = [np.asarray(part, np.float32) for part in parts]
    return np.concatenate(taken) if taken else np.empty((0, max(rows.dim, 1)), np.float32)


def _index_of(rows: NDArray[np.float32], *, exact: bool) -> faiss.Index:
    import faiss

    dim = rows.shape[1]
    if exact or len(rows) < _FEWEST_ROWS:
        index = faiss.IndexFlatIP(dim)
    else:
        cells = int(_CELLS * np.sqrt(len(rows)))
        index = faiss.index_factory(dim, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = _PROBED
        drawn = np.random.default_rng(0).choice(len(rows), min(len(rows), cells * _TRAINED), False)
        index.train(rows[np.sort(drawn)])
    index.add(np.ascontiguousarray(rows))
    return index
