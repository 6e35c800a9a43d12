"""Whether an image may be removed for another one: of equal bytes, or compared pixel by pixel."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from embedkit.decode.exact import decode_image
from embedkit.dedup.cleanup.traces import find_traces
from embedkit.errors import EmbedkitError, MissingExtraError
from embedkit.utils.parallel import check_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.dedup.cleanup.traces import Traces
    from embedkit.dedup.verification.pixel_check import CheckedImage

    Key = tuple[int, str]

__all__ = ["NOT_VERIFIED", "SAME_BYTES", "PixelComparison", "compared_mark", "is_raw"]

NOT_VERIFIED = "not verified: "
"""How the reason begins where an image stays because it wasn't shown to be a copy."""

SAME_BYTES = "bytes"
"""The mark of a removal that needs no comparison of pixels."""

_RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".x3f",
)  # fmt: skip
_IMAGES_KEPT = 64  # about a megabyte each
_UNREADABLE = "its pixels can't be compared: "
_WITHOUT_OPENCV = str(MissingExtraError("opencv-python-headless", "verify", "comparing pixels"))


def compared_mark(removed_hash: str, kept_hash: str) -> str:
    """What a plan says of a removal that was compared: it holds for these two contents only.

    Args:
        removed_hash: SHA-256 (hex) of the removed image.
        kept_hash: SHA-256 (hex) of the kept one.
    """
    if removed_hash == kept_hash:
        return SAME_BYTES
    both = bytes.fromhex(removed_hash) + bytes.fromhex(kept_hash)
    return f"pixels:{hashlib.sha256(both).hexdigest()[:16]}"


def is_raw(name: str, kind: str = "") -> bool:
    """Whether an image is a camera's raw file, by its name or its format."""
    return name.lower().endswith(_RAW_SUFFIXES) or f".{kind.lower()}" in _RAW_SUFFIXES


class PixelComparison:
    """Compares images pixel by pixel, in one thread; each is read once while it is needed.

    Args:
        read: Gives an encoded image by its key, a number and a name; raises `EmbedkitError`.
        resolution: Whether what stays must also show all details in the same fineness.
    """

    def __init__(self, read: Callable[[Key], bytes], *, resolution: bool = False) -> None:
        self._read, self._resolution = read, resolution
        self._images: OrderedDict[Key, CheckedImage | str] = OrderedDict()

    def why_not(self, removed: Key, kept: Key) -> str:
        """Why the one may not be removed for the other; empty if it may.

        Args:
            removed: Key of the image to remove.
            kept: Key of the image that stays.
        """
        if is_raw(removed[1]) != is_raw(kept[1]):
            return "a camera's raw file and its picture both stay"
        check_cancelled()
        try:
            from embedkit.dedup.verification.pixel_check import why_not_contained
        except ImportError:
            return _WITHOUT_OPENCV
        found = [self._image(key) for key in (removed, kept)]
        first, second = found
        if isinstance(first, str) or isinstance(second, str):
            return next(one for one in found if isinstance(one, str))
        return why_not_contained(first, second, resolution=self._resolution)

    def traces(self, key: Key) -> Traces | None:
        """The traces of editing in an image; None if it can't be read."""
        check_cancelled()
        try:
            data = self._read(key)
            decoded = decode_image(data, key[1])
        except EmbedkitError as exc:
            self._keep(key, f"{_UNREADABLE}{exc}")
            return None
        pixels = np.asarray(decoded.image)
        self._keep(key, _checked(key, pixels, decoded.frames))
        return find_traces(data, pixels)

    def _image(self, key: Key) -> CheckedImage | str:
        """The image, or why it can't be compared."""
        if key not in self._images:
            try:
                decoded = decode_image(self._read(key), key[1])
                self._keep(key, _checked(key, np.asarray(decoded.image), decoded.frames))
            except EmbedkitError as exc:
                self._keep(key, f"{_UNREADABLE}{exc}")
        self._images.move_to_end(key)
        return self._images[key]

    def _keep(self, key: Key, image: CheckedImage | str) -> None:
        self._images[key] = image
        if len(self._images) > _IMAGES_KEPT:
            self._images.popitem(last=False)


def _checked(key: Key, pixels: NDArray[np.uint8], frames: int) -> CheckedImage | str:
    """What is compared of an image, or why it can't be."""
    if frames > 1:
        return f"first page only: {key[1]} has {frames} pages or frames"
    try:
        from embedkit.dedup.verification.pixel_check import CheckedImage
    except ImportError:
        return _WITHOUT_OPENCV
    return CheckedImage.of(pixels)
