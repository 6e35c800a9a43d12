"""The file name suffixes of images."""

from __future__ import annotations

import posixpath
import re

__all__ = ["has_image_name", "is_repeated_image"]

# Formats that are not read are among them: their files fail with a reason, and are not skipped.
_SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heics", ".heif"),
        *(".heifs", ".hif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg"),
        *(".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga"),
        *(".tif", ".tiff", ".webp"),
        # Camera raws
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
        *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"),
    )
)


def is_repeated_image(name: str, image_id: str) -> bool:
    """Whether a name is an image's, but its id isn't: ``a.jpg@2`` for a second ``a.jpg``."""
    return not has_image_name(image_id) and has_image_name(name)


def has_image_name(name: str) -> bool:
    """Whether a name ends like an image's, in small or capital letters.

    Args:
        name: A file name, path or URL; of a web address, what follows the path (``?size=big``)
            doesn't count.
    """
    lower = name.lower()
    if lower.startswith(("http://", "https://")):
        lower = re.split(r"[?#]", lower, maxsplit=1)[0]
    return posixpath.splitext(lower.replace("\\", "/"))[1] in _SUFFIXES
