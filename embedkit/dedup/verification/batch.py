"""Verifies pairs of images in batches; each image is read once while it is needed."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from embedkit.errors import EmbedkitError
from embedkit.utils.progress import Stage
from embedkit.utils.threads import library_threads, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.sift import LocalFeatures

    Pixels = Callable[[str], NDArray[np.uint8]]

__all__ = ["verify_pairs"]

_Image = TypeVar("_Image")

_IMAGES_KEPT = 4096  # about 130 KiB each; finding the features again costs ten comparisons
_PAIRS_AT_ONCE = 256


def verify_pairs(
    pairs: Sequence[tuple[_Image, _Image]],
    pixels: Callable[[_Image], NDArray[np.uint8]],
    *,
    threads: int,
) -> list[Evidence | None]:
    """Verifies pairs of images.

    Args:
        pairs: Two keys of images each, such as ids; pairs of the same image should be near each
            other, so that it is read once.
        pixels: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by its key.
        threads: Number of threads.

    Returns:
        The evidence of each pair; None where one of its images can't be read.

    Raises:
        MissingExtraError: OpenCV isn't installed.
    """
    from embedkit.dedup.verification.geometric import compare

    kept: OrderedDict[_Image, LocalFeatures | None] = OrderedDict()
    out: list[Evidence | None] = []

    def evidence(pair: tuple[_Image, _Image]) -> Evidence | None:
        first, second = kept[pair[0]], kept[pair[1]]
        return None if first is None or second is None else compare(first, second)

    # One BLAS thread per product: the products are small, and pairs run in parallel.
    with (
        library_threads(1),
        ThreadPoolExecutor(threads, "verify", use_one_thread) as pool,
        Stage("verifying pairs", len(pairs), unit="pairs") as stage,
    ):
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            _find_missing_features(part, kept, pixels, pool)
            out += pool.map(evidence, part)
            while len(kept) > _IMAGES_KEPT:
                kept.popitem(last=False)
            stage.update(len(out))
    return out


def _find_missing_features(
    pairs: Sequence[tuple[_Image, _Image]],
    kept: OrderedDict[_Image, LocalFeatures | None],
    pixels: Callable[[_Image], NDArray[np.uint8]],
    pool: ThreadPoolExecutor,
) -> None:
    """Adds the local features of images that aren't in ``kept`` yet."""
    from embedkit.dedup.verification.sift import find_features

    def features(image: _Image) -> LocalFeatures | None:
        try:
            return find_features(pixels(image))
        except EmbedkitError:  # its pairs get no evidence
            return None

    images = list(dict.fromkeys(image for pair in pairs for image in pair))
    for image in images:
        if image in kept:
            kept.move_to_end(image)
    missing = [image for image in images if image not in kept]
    kept.update(zip(missing, pool.map(features, missing), strict=True))
