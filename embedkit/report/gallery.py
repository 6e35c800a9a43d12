"""Writing a gallery: thumbnails, the template, one file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.errors import EmbedkitError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from embedkit.report.content import Gallery

__all__ = ["thumbnail", "write_gallery", "write_html"]

_SIDE = 160  # pixels
_QUALITY = 80


def thumbnail(image: Image.Image, side: int = _SIDE) -> str:
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
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def write_gallery(path: Path, gallery: Gallery) -> Path:
    """Writes a gallery as one HTML file that loads nothing from anywhere.

    Args:
        path: The file; it is replaced when the new one is whole.
        gallery: What it shows. Names may be any text: they are escaped.

    Returns:
        ``path``.

    Raises:
        MissingExtraError: jinja2 isn't installed.
        EmbedkitError: The file can't be written.
    """
    return write_html(path, "gallery.html", gallery=gallery)


def write_html(path: Path, template: str, **content: object) -> Path:
    """Writes a page from one of the templates.

    Args:
        path: The file; it is replaced when the new one is whole.
        template: The template's file name.
        **content: What it shows. Names may be any text: they are escaped.

    Returns:
        ``path``.

    Raises:
        MissingExtraError: jinja2 isn't installed.
        EmbedkitError: The file can't be written.
    """
    page = _environment().get_template(template).render(content)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(page, "utf-8")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise EmbedkitError(f"{path}: can't be written: {exc.strerror or exc}") from exc
    return path


def _environment() -> Environment:
    try:
        import jinja2
    except ImportError as exc:
        raise MissingExtraError("jinja2", "report", "an HTML report") from exc
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("embedkit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["percent"] = _percent
    return environment


def _printable(value: object) -> object:
    """Writes as an escape what can't be shown.

    That is bytes which aren't UTF-8, control characters, and those that turn the direction of
    writing. Markup, a subclass of str, is the template's own and stays.
    """
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
