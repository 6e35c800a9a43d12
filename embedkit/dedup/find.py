"""Finding the copies in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.equal import as_keys, digest_rows, equal_keys
from embedkit.dedup.grouping import group_rows, name_groups
from embedkit.dedup.hashes import close_hashes, is_telling
from embedkit.dedup.join import join_rows
from embedkit.dedup.rows import UnitRows
from embedkit.records import DuplicateGroups
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["find_duplicates"]

_SAME_BYTES, _EMBEDDING, _PHASH = 1, 2, 4
_WORDS = {_SAME_BYTES: "same bytes", _EMBEDDING: "embedding", _PHASH: "perceptual hash"}
_REASONS = tuple(
    " + ".join(word for bit, word in _WORDS.items() if bits & bit) for bits in range(8)
)


def find_duplicates(
    store: str | os.PathLike[str], *, threshold: float = 0.95, max_hamming: int | None = 4
) -> DuplicateGroups:
    """Finds the images of a store that are copies of each other.

    Two images are copies if their bytes are the same, if the cosine of their embeddings is at
    least ``threshold``, or if their perceptual hashes differ in at most ``max_hamming`` bits; and
    copies of copies are in one group. Every pair is compared, so the time grows with the square
    of the images. Images that are the same by one of these measures (same bytes, same embedding,
    same hash) are joined to the first of them, and only that one is compared with the others: n
    equal images give n - 1 pairs.

    Args:
        store: A store file or folder.
        threshold: The least cosine, above 0 and at most 1.
        max_hamming: The most bits that two perceptual hashes may differ in, 0 to 64; None leaves
            the perceptual hash out.

    Returns:
        The groups by their first image, and the pairs in order of their rows. A pair's score is
        the cosine; it is 1 for the same bytes.

    Raises:
        StoreError: The store can't be read, or an embedding isn't finite.
        EmbedkitError: More than ten million pairs are as alike as that.
        ValueError: An argument is out of its range.
    """
    _check_arguments(threshold, max_hamming)
    with EmbeddingStore.open(store) as opened:
        found = _Pairs(len(opened))
        rows = np.arange(len(opened))
        same, rows = equal_keys(as_keys(opened.images("content_hash")), rows)
        found.add(same, _SAME_BYTES, 1.0)
        _add_similar(found, opened, rows, threshold)
        if max_hamming is not None:
            _add_close(found, opened, rows, max_hamming)
        pairs, reasons, scores = found.joined()
        groups = name_groups(group_rows(pairs), opened.ids)
    words = tuple(_REASONS[bits] for bits in reasons.tolist())
    return DuplicateGroups(groups, pairs, scores, words, threshold)


class _Pairs:
    """Pairs from several searches, each pair once, with all its reasons."""

    def __init__(self, rows: int) -> None:
        self._rows = max(rows, 1)
        self._keys = [np.empty(0, np.int64)]
        self._reasons = [np.empty(0, np.uint8)]
        self._scores = [np.empty(0, np.float32)]

    def add(
        self, pairs: NDArray[np.int64], reason: int, scores: float | NDArray[np.float32]
    ) -> None:
        """Adds ``(P, 2)`` pairs, the lower row first, that were found for one reason."""
        self._keys.append(pairs[:, 0] * self._rows + pairs[:, 1])
        self._reasons.append(np.full(len(pairs), reason, np.uint8))
        self._scores.append(np.broadcast_to(np.float32(scores), len(pairs)))

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32]]:
        """``(P, 2)`` pairs in order, the reasons as bits, the scores."""
        keys, first, inverse = np.unique(
            np.concatenate(self._keys), return_index=True, return_inverse=True
        )
        reasons = np.zeros(len(keys), np.uint8)
        np.bitwise_or.at(reasons, inverse, np.concatenate(self._reasons))
        pairs = np.stack(np.divmod(keys, self._rows), axis=1)
        return pairs, reasons, np.minimum(np.concatenate(self._scores)[first], 1)


def _add_similar(
    found: _Pairs, store: EmbeddingStore, rows: NDArray[np.int64], threshold: float
) -> None:
    """Adds what the embeddings say; a zero vector is like nothing."""
    digests, nonzero = digest_rows(store)
    rows = rows[nonzero[rows]]
    same, rows = equal_keys(digests[rows], rows)
    found.add(same, _EMBEDDING, 1.0)
    first, second, scores = join_rows(UnitRows(store.embeddings, rows), threshold)
    found.add(np.stack([first, second], axis=1), _EMBEDDING, scores)


def _add_close(
    found: _Pairs, store: EmbeddingStore, rows: NDArray[np.int64], max_hamming: int
) -> None:
    """Adds what the perceptual hashes say, those of blank images left out."""
    hashes = store.images("phash").astype(np.uint64)
    rows = rows[is_telling(hashes[rows])]
    same, rows = equal_keys(hashes[rows], rows)
    close = rows[np.stack(close_hashes(hashes[rows], max_hamming), axis=1)]
    every = UnitRows(store.embeddings)
    for pairs in (same, close):
        cosines = every.cosines(pairs[:, 0], every, pairs[:, 1])
        found.add(pairs, _PHASH, cosines.astype(np.float32))


def _check_arguments(threshold: float, max_hamming: int | None) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    if max_hamming is not None and not 0 <= max_hamming <= 64:
        raise ValueError(f"max_hamming must be from 0 to 64, not {max_hamming}")
