"""Checks of vectors (finite values) and L2 normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["first_not_finite", "refuse_not_finite", "unit_rows", "widen"]

_CHUNK_VALUES = 2**18  # 1 MiB of float32; for smaller ones threads wait at each call
_ALL_BUT_SIGNS = np.int32(-0x70002000)  # 0x8fffe000
_TWO_13 = np.int32(2**13)
_TWO_112 = np.float32(2.0**112)
_INFINITY, _MINUS_INFINITY = 0x7C00, 0xFC00  # of float16; NaNs are above


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scales each row to unit L2 norm; the cosine of two rows is then their inner product.

    A row of zeros stays one, so that its cosine with everything is 0.

    Args:
        vectors: ``(n, D)`` float16 or float32, finite.

    Returns:
        ``(n, D)`` float32, a new array.
    """
    is_half = vectors.dtype == np.float16
    rows = widen(vectors) if is_half else np.array(vectors, dtype=np.float32, order="C")
    for part in _chunks(rows):
        if not is_half:  # the squares of large or tiny float32 values overflow or vanish
            _divide(part, np.abs(part).max(axis=1, initial=0))
        _divide(part, np.sqrt(np.einsum("nd,nd->n", part, part)))
    return rows


def widen(
    rows: NDArray[np.floating], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Finite rows as float32, the same values.

    NumPy casts float16 one value at a time where it has no instruction for it. Here the bits are
    moved to where float32 has them, and a multiplication puts the exponent's bias right.

    Args:
        rows: ``(n, D)`` float16 or float32; what isn't finite becomes a number.
        out: ``(n, D)`` to write to, if the rows are float16; None makes a new array.

    Returns:
        ``(n, D)``; the rows themselves, if they are float32.
    """
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    if out is None:
        out = np.empty(rows.shape, np.float32)
    narrow = np.ascontiguousarray(rows).view(np.int16)
    for wide, values in zip(_chunks(out), _chunks(narrow), strict=True):
        bits = wide.view(np.int32)
        bits[...] = values  # the sign is repeated to the left, and masked out below
        bits *= _TWO_13  # a shift, which NumPy does one by one
        bits &= _ALL_BUT_SIGNS
        wide *= _TWO_112
    return out


def first_not_finite(vectors: NDArray[np.floating]) -> int | None:
    """The first row of ``vectors``, ``(n, D)``, that holds a NaN or an infinity; None if none."""
    if vectors.dtype == np.float16 and _halves_are_finite(np.ascontiguousarray(vectors)):
        return None
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return int(bad[0]) if len(bad) else None


def refuse_not_finite(vectors: NDArray[np.floating], ids: Sequence[str], store: Path) -> None:
    """Rejects embeddings, ``(n, D)``, with a NaN or an infinity.

    Raises:
        StoreError: There is one; the message names the store and the id.
    """
    bad = first_not_finite(vectors)
    if bad is not None:
        raise StoreError(f"{store}: the embedding of {ids[bad]} isn't finite")


def _halves_are_finite(vectors: NDArray[np.float16]) -> bool:
    """By their bits, which rise with the value, among those of either sign."""
    return all(
        part.view(np.int16).max(initial=0) < _INFINITY
        and part.view(np.uint16).max(initial=0) < _MINUS_INFINITY
        for part in _chunks(vectors)
    )


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows in views, a bounded number at a time."""
    size = max(_CHUNK_VALUES // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _divide(rows: NDArray[np.float32], by: NDArray[np.float32]) -> None:
    rows /= np.where(by > 0, by, 1)[:, None]
