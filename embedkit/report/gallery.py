"""Writes an HTML gallery with its thumbnails."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.report.gallery_data import ENLARGED
from embedkit.report.page_writer import environment, write_page

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.report.gallery_data import Gallery

__all__ = ["thumbnail", "write_gallery"]

_QUALITY, _SMALL_QUALITY = 80, 92


def thumbnail(image: Image.Image, side: int) -> str:
    """A small copy of an image that can stand in a page itself.

    Args:
        image: Any size and mode that converts to RGB.
        side: The longer side is at most this, pixels.

    Returns:
        A ``data:`` URI of a JPEG.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(image.size) < ENLARGED:  # its pixels will be seen one by one
        small.save(file, "JPEG", quality=_SMALL_QUALITY, subsampling=0, optimize=True)
    else:
        small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def write_gallery(path: Path, gallery: Gallery) -> Path:
    """Writes a gallery as one HTML file that loads no other file.

    Args:
        path: The file; an existing one is replaced atomically.
        gallery: Its content; all text is escaped.

    Returns:
        ``path``.

    Raises:
        EmbedkitError: The file can't be written.
    """
    return write_page(path, environment().get_template("gallery.html").render(page=gallery))
