"""Looking at the images of pairs, each image read once while it is needed."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits

from embedkit.errors import EmbedkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.sift import LocalFeatures

    Pixels = Callable[[str], NDArray[np.uint8]]

__all__ = ["compare_images"]

_Image = TypeVar("_Image")

_IMAGES_KEPT = 4096  # about 130 KiB each; what is found again costs as much as ten comparisons
_PAIRS_AT_ONCE = 256


def compare_images(
    pairs: Sequence[tuple[_Image, _Image]],
    pixels: Callable[[_Image], NDArray[np.uint8]],
    *,
    threads: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Evidence | None]:
    """Looks at pairs of images; None where one of the two can't be had.

    Args:
        pairs: What stands for two images each, such as ids; those of the same image near each
            other, as it is then read once.
        pixels: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by what stands for it.
        threads: How many.
        on_progress: Told how many of how many pairs are done.

    Raises:
        MissingExtraError: OpenCV isn't installed.
    """
    from embedkit.dedup.verification.geometric import compare

    kept: OrderedDict[_Image, LocalFeatures | None] = OrderedDict()
    out: list[Evidence | None] = []

    def evidence(pair: tuple[_Image, _Image]) -> Evidence | None:
        first, second = kept[pair[0]], kept[pair[1]]
        return None if first is None or second is None else compare(first, second)

    # One thread of BLAS a product: they are small, and the threads are ours.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            _look_at(part, kept, pixels, pool)
            out += pool.map(evidence, part)
            while len(kept) > _IMAGES_KEPT:
                kept.popitem(last=False)
            if on_progress is not None:
                on_progress(len(out), len(pairs))
    return out


def _look_at(
    pairs: Sequence[tuple[_Image, _Image]],
    kept: OrderedDict[_Image, LocalFeatures | None],
    pixels: Callable[[_Image], NDArray[np.uint8]],
    pool: ThreadPoolExecutor,
) -> None:
    """Finds the local features of the images of some pairs that aren't kept yet."""
    from embedkit.dedup.verification.sift import find_features

    def features(image: _Image) -> LocalFeatures | None:
        try:
            return find_features(pixels(image))
        except EmbedkitError:  # told by the pair: it stays unchecked
            return None

    images = list(dict.fromkeys(image for pair in pairs for image in pair))
    for image in images:
        if image in kept:
            kept.move_to_end(image)
    missing = [image for image in images if image not in kept]
    kept.update(zip(missing, pool.map(features, missing), strict=True))
