"""Candidates by rank: the nearest images of each image, whatever their cosines.

A cosine that fits a store of landscapes is far too low for one of portraits. The nearest images of
each image are a bounded number anywhere, and a pair that is near from both sides comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

__all__ = ["nearest", "rank_pairs"]

_EXACT_ROWS = 100_000  # more are searched in IVF cells
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
        ``(n, count)`` places in ``others``, the nearest first, -1 where there are no more; and the
        cosines.
    """
    found = np.full((len(rows), count), -1, np.int64)
    cosines = np.full((len(rows), count), -1, np.float32)
    if not len(rows) or not len(others):
        return found, cosines
    index = _index_of(others, exact=len(others) <= _EXACT_ROWS if exact is None else exact)
    with Stage("finding the nearest images", len(rows), unit="images") as stage:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, min(start + _ROWS_AT_ONCE, len(rows)))
            cosines[part], found[part] = index.search(np.ascontiguousarray(rows[part]), count)
            stage.update(part.stop)
    return found, cosines


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


def rank_pairs(
    found: NDArray[np.int64], back: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows and their nearest, with the sum of the ranks that each has for the other.

    Args:
        found: ``(n, k)`` places among the others, as ``nearest`` gives them.
        back: ``(m, k)`` the nearest rows of the others; None if rows and others are the same.

    Returns:
        ``(P, 2)`` pairs, each once (of the same rows the lower place first), and ``(P,)`` sums of
        two ranks of 0 to k.
    """
    count = found.shape[1]
    forth = _listed(found)
    back_pairs = forth[:, [1, 0, 2]] if back is None else _listed(back)[:, [1, 0, 2]]
    table = np.concatenate([forth, back_pairs])
    if back is None:
        table = table[table[:, 0] < table[:, 1]]
    order = np.lexsort((table[:, 2], table[:, 1], table[:, 0]))
    table = table[order]
    first = np.flatnonzero(np.append(True, (np.diff(table[:, :2], axis=0) != 0).any(axis=1)))
    if not len(table):
        return table[:, :2], table[:, 2]
    total = np.add.reduceat(table[:, 2], first)
    once = np.diff(np.append(first, len(table))) == 1
    return table[first, :2], total + once * count


def _listed(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(P, 3)`` row, place, rank; a row itself isn't among its nearest."""
    rank = np.broadcast_to(np.arange(found.shape[1]), found.shape)
    row = np.broadcast_to(np.arange(len(found))[:, None], found.shape)
    table = np.stack([row, found, rank], axis=-1).reshape(-1, 3)
    return table[table[:, 1] >= 0]
