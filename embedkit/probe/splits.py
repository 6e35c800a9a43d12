"""Splits images into train and test by a keyed hash of their ids, stratified by class.

So a split depends on the ids and the seed alone, not on the order of the rows nor on the machine.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["draw_shots", "hash_ids", "split_off"]


def split_off(
    ids: Sequence[str], strata: NDArray[np.int64], share: float, key: str
) -> NDArray[np.bool_]:
    """Holds out a share of the images, stratified by class.

    Args:
        ids: n ids.
        strata: ``(n,)`` class numbers.
        share: Above 0 and below 1. In a class with two images or more, at least one is set aside
            and one is kept; a single image is kept.
        key: Decides which, as a seed.

    Returns:
        ``(n,)`` which images are set aside.

    Raises:
        ValueError: ``share`` is out of its range.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to split off must be above 0 and below 1, not {share}")
    rank, size = _ranks(ids, strata, key)
    aside = np.clip(np.round(share * size), 1, np.maximum(size - 1, 0))
    return rank < np.where(size > 1, aside, 0)


def draw_shots(
    ids: Sequence[str], strata: NDArray[np.int64], shots: int, key: str
) -> NDArray[np.bool_]:
    """Draws the same number of images per class.

    Args:
        ids: n ids.
        strata: ``(n,)`` class numbers.
        shots: Images per class.
        key: Decides which, as a seed.

    Returns:
        ``(n,)`` which images are drawn.

    Raises:
        ValueError: ``shots`` is less than 1, or a class has fewer images.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, not {shots}")
    rank, size = _ranks(ids, strata, key)
    if size.min() < shots:
        raise ValueError(f"{shots} shots: the smallest class has only {size.min()} images")
    return rank < shots


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 (hex) of a set of ids: two splits are the same if it is."""
    digest = hashlib.sha256()
    for name in sorted(one.encode("utf-8", "surrogateescape") for one in ids):
        digest.update(name + b"\n")
    return digest.hexdigest()


def _ranks(
    ids: Sequence[str], strata: NDArray[np.int64], key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of each image in its class, ordered by hash, and the size of its class."""
    secret = hashlib.sha256(key.encode()).digest()
    hashed = b"".join(
        hashlib.blake2b(one.encode("utf-8", "surrogateescape"), digest_size=8, key=secret).digest()
        for one in ids
    )
    order = np.lexsort((np.frombuffer(hashed, "<u8"), strata))
    classes, starts, counts = np.unique(strata[order], return_index=True, return_counts=True)
    place = np.searchsorted(classes, strata)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    return rank - starts[place], counts[place]
