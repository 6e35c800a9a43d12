"""Opens encoded bytes by one of Pillow's plugins, under limits of our own."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.decode.checks import Header
from embedkit.decode.failure import BadImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import ImageFile

    from embedkit.decode.policy import DecodePolicy

__all__ = ["StrictReader", "check_sizes", "open_image"]

# They are about metadata that decoding has no use for, and about Pillow's limit of pixels. Filters
# are global, and `warnings.catch_warnings` isn't safe in threads, so they are set once.
for _category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")


class StrictReader(io.BytesIO):
    """A file in memory that, once ``strict``, raises at its end instead of giving nothing.

    So a cut file is found out even where ``LOAD_TRUNCATED_IMAGES`` asks Pillow to pass it.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BytesIO.read`, except at the end."""
        found = super().read(size)
        if self.strict and size != 0 and not found:
            raise BadImageError("truncated: the pixel data end early")
        return found


_TO_THE_END = ("ppm", "ppm_plain", "jpeg2k")
"""Pillow's decoders that read to the end by design."""


def check_sizes(sizes: tuple[tuple[int, int], ...], policy: DecodePolicy) -> None:
    """Refuse by the header.

    Raises:
        BadImageError: If a buffer of that size is above the limit.
    """
    for width, height in sizes:
        if width * height > policy.max_pixels:
            raise BadImageError(
                f"too many pixels: {width}x{height}, the limit is {policy.max_pixels:,}"
            )


def open_image(
    data: bytes,
    policy: DecodePolicy,
    plugin: type[ImageFile.ImageFile],
    check: Callable[[bytes], Header] | None,
    *,
    strict: bool = True,
) -> tuple[ImageFile.ImageFile, int]:
    """Check and decode.

    Args:
        data: The encoded file.
        policy: Limits.
        plugin: Pillow's class for its format.
        check: Reads the header first, where Pillow would allocate or read on without a limit.
        strict: Whether the file is cut if the plugin reads at its end.

    Returns:
        The image, loaded, in the file's own mode, and the number of frames.

    Raises:
        BadImageError: If it is too large, or ends early; Pillow raises errors of nearly any type.
    """
    header = check(data) if check else Header()
    check_sizes(header.sizes, policy)
    reader = StrictReader(data)
    image = plugin(reader)
    check_sizes((image.size,), policy)
    frames = header.frames or int(getattr(image, "n_frames", 1))
    reader.strict = strict and all(tile[0] not in _TO_THE_END for tile in image.tile)
    image.load()
    return image, frames
