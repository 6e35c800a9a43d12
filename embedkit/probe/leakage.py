"""Finds test images with near-duplicates in the training set, because leakage inflates scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.hamming_join import is_informative
from embedkit.probe.knn import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.probe.rows import Rows

__all__ = ["LEAK_THRESHOLD", "ImageHashes", "Leaks", "find_leaks"]

LEAK_THRESHOLD = 0.95
"""Minimum cosine at which deduplication treats two images as near-duplicates by default."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ImageHashes:
    """Hashes of n images.

    Attributes:
        content: ``(n, 32)`` uint8, SHA-256 of the images' bytes.
        perceptual: ``(n,)`` uint64.
    """

    content: NDArray[np.uint8]
    perceptual: NDArray[np.uint64]

    def take(self, which: NDArray[np.int64]) -> ImageHashes:
        """Some of the images."""
        return ImageHashes(self.content[which], self.perceptual[which])


@dataclass(frozen=True, slots=True)
class Leaks:
    """Near-duplicates across a split.

    Attributes:
        images: Test images with a near-duplicate among the training images, by any criterion.
        same_bytes: Of these, images with identical bytes.
        same_phash: Of these, images with an identical perceptual hash.
        similar: Of these, images whose cosine is at least ``threshold``.
        threshold: Minimum cosine of near-duplicates.
        examples: Test row, nearest training row, cosine: the closest few.
    """

    images: int
    same_bytes: int
    same_phash: int
    similar: int
    threshold: float
    examples: tuple[tuple[int, int, float], ...]


def find_leaks(
    test: Rows,
    training: Rows,
    test_hashes: ImageHashes,
    training_hashes: ImageHashes,
    *,
    threshold: float = LEAK_THRESHOLD,
    device: str = "cpu",
) -> Leaks:
    """Compares every test image with every training image.

    Args:
        test: Q rows of unit length.
        training: N rows of unit length.
        test_hashes: Hashes of the test images.
        training_hashes: Hashes of the training images.
        threshold: Minimum cosine of near-duplicates.
        device: Where cosines are computed.
    """
    bytes_here = np.isin(_keys(test_hashes.content), _keys(training_hashes.content))
    informative = is_informative(test_hashes.perceptual)
    phash_here = informative & np.isin(
        test_hashes.perceptual, training_hashes.perceptual, kind="sort"
    )
    found = list(nearest(test, training, 1, device=device))
    cosines = np.concatenate([one.cosines[:, 0] for one in found])
    rows = np.concatenate([one.rows[:, 0] for one in found])
    similar = cosines >= threshold
    leaking = np.flatnonzero(bytes_here | phash_here | similar)
    closest = leaking[np.argsort(-cosines[leaking], kind="stable")][:_SHOWN].tolist()
    examples = tuple((row, int(rows[row]), float(cosines[row])) for row in closest)
    same_bytes, same_phash, near = (int(one.sum()) for one in (bytes_here, phash_here, similar))
    return Leaks(len(leaking), same_bytes, same_phash, near, threshold, examples)


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").reshape(-1)
