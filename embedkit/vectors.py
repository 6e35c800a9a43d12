"""What search and deduplication ask of vectors: finite values and unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["first_not_finite", "unit_rows"]


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scales each row to unit L2 norm; the cosine of two rows is then their inner product.

    A row of zeros stays one, so that its cosine with everything is 0.

    Args:
        vectors: ``(n, D)`` float16 or float32, finite.

    Returns:
        ``(n, D)`` float32, a new array.
    """
    rows = np.array(vectors, dtype=np.float32, order="C")
    # By the largest value first: the squares of large or tiny values overflow or vanish.
    _divide(rows, np.abs(rows).max(axis=1, initial=0))
    _divide(rows, np.linalg.norm(rows, axis=1))
    return rows


def _divide(rows: NDArray[np.float32], by: NDArray[np.float32]) -> None:
    rows /= np.where(by > 0, by, 1)[:, None]


def first_not_finite(vectors: NDArray[np.floating]) -> int | None:
    """The first row of ``vectors``, ``(n, D)``, that holds a NaN or an infinity; None if none."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return int(bad[0]) if len(bad) else None
