"""Compares pairs of images in parallel; the features of each image are kept while it is needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from embedkit.errors import EmbedkitError, WorkerError
from embedkit.utils.parallel import begin_thread
from embedkit.utils.progress import track
from embedkit.utils.threads import library_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.image_to_compare import ImageToCompare
    from embedkit.dedup.verification.keypoints import Keypoints

    Pixels = Callable[[str], NDArray[np.uint8]]

    class Compares(Protocol):
        """Compares images, given by their numbers; see `PairComparer`."""

        def __call__(self, pairs: Sequence[tuple[int, int]], /) -> list[Evidence | None]: ...

        def keypoints(self, images: Sequence[int], /) -> list[Keypoints | None]: ...

    Comparer = AbstractContextManager[Compares]

__all__ = ["IMAGES_KEPT", "PairComparer", "verify_pairs"]

IMAGES_KEPT = 2048
"""Images whose features are kept, about 500 KiB each: finding them costs as some comparisons."""

_Image = TypeVar("_Image")

_PAIRS_AT_ONCE = 256


class PairComparer(Generic[_Image]):
    """Compares pairs of images on their pixels; use it as a context manager.

    Args:
        pixels: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by its key.
        threads: Number of threads.
        backwards: Whether the evidence says how the first was made from the second.
        images_kept: How many images' features are kept.

    Raises:
        MissingExtraError: OpenCV isn't installed.
    """

    def __init__(
        self,
        pixels: Callable[[_Image], NDArray[np.uint8]],
        threads: int,
        *,
        backwards: bool = False,
        images_kept: int = IMAGES_KEPT,
    ) -> None:
        from embedkit.dedup.verification.geometric import compare

        self._pixels, self._threads, self._compare = pixels, threads, compare
        self._backwards, self._images_kept = backwards, images_kept
        self._kept: OrderedDict[_Image, ImageToCompare | None] = OrderedDict()
        self._keypoints: dict[_Image, Keypoints] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # One BLAS thread per product: the products are small, and pairs run in parallel.
        self._stack.enter_context(library_threads(1))
        self._cancelled = threading.Event()
        pool = ThreadPoolExecutor(self._threads, "verify", begin_thread, (self._cancelled,))
        self._pool = self._stack.enter_context(pool)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._cancelled.set()  # an image that hangs isn't waited for
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    def __call__(self, pairs: Sequence[tuple[_Image, _Image]]) -> list[Evidence | None]:
        """The evidence of each pair; None where one of its images can't be read."""
        self._load(list(dict.fromkeys(image for pair in pairs for image in pair)))
        found = list(self._pool.map(self._evidence, pairs))
        self._forget()
        return found

    def keypoints(self, images: Sequence[_Image]) -> list[Keypoints | None]:
        """Those of images; None where one can't be read. They are kept, some 30 KiB an image."""
        self._load([image for image in images if image not in self._keypoints])
        kept = {image: one for image in images if (one := self._kept.get(image)) is not None}
        found = self._pool.map(lambda one: one.keypoints, kept.values())
        self._keypoints.update(zip(kept, found, strict=True))
        self._forget()
        return [self._keypoints.get(image) for image in images]

    def _evidence(self, pair: tuple[_Image, _Image]) -> Evidence | None:
        first, second = self._kept[pair[0]], self._kept[pair[1]]
        if first is None or second is None:
            return None
        return self._compare(second, first) if self._backwards else self._compare(first, second)

    def _forget(self) -> None:
        while len(self._kept) > self._images_kept:
            self._kept.popitem(last=False)

    def _load(self, images: Sequence[_Image]) -> None:
        from embedkit.dedup.verification.image_to_compare import ImageToCompare

        def load(image: _Image) -> ImageToCompare | None:
            try:
                return ImageToCompare.of(self._pixels(image), self._keypoints.get(image))
            except WorkerError:  # too many images hang: all others would seem unreadable
                raise
            except EmbedkitError:  # its pairs get no evidence
                return None

        for image in images:
            if image in self._kept:
                self._kept.move_to_end(image)
        missing = [image for image in images if image not in self._kept]
        self._kept.update(zip(missing, self._pool.map(load, missing), strict=True))


def verify_pairs(
    pairs: Sequence[tuple[_Image, _Image]],
    pixels: Callable[[_Image], NDArray[np.uint8]],
    *,
    threads: int,
) -> list[Evidence | None]:
    """The evidence of each pair; see `PairComparer`.

    Pairs of the same image should be near each other, so that it is read once.
    """
    starts = range(0, len(pairs), _PAIRS_AT_ONCE)
    with PairComparer(pixels, threads) as compare:
        return [
            one
            for start in track(starts, "verifying pairs", len(starts), unit="blocks")
            for one in compare(pairs[start : start + _PAIRS_AT_ONCE])
        ]
