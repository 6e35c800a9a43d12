"""Writes an HTML gallery with its thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.report.page_writer import environment, write_page

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.report.gallery_data import Gallery

__all__ = ["write_gallery"]


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
