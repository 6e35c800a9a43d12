"""What all pages share: template environment, escaping, atomic writing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup

from embedkit.errors import EmbedkitError

if TYPE_CHECKING:
    from pathlib import Path

    import jinja2

__all__ = ["environment", "printable", "write_page"]


def write_page(path: Path, text: str) -> Path:
    """Writes a page; an existing file is replaced atomically.

    Raises:
        EmbedkitError: The file can't be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise EmbedkitError(f"{path}: can't be written: {exc.strerror or exc}") from exc
    return path


def environment() -> jinja2.Environment:
    """The templates, with autoescape on."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("embedkit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters["percent"] = _percent
    made.filters["count"] = "{:,}".format
    made.filters["cut"] = _cut
    made.filters["short"] = _short
    made.filters["wrapped"] = _wrapped
    return made


def printable(text: str) -> str:
    """Writes as an escape what can't be shown.

    That is bytes which aren't UTF-8, control characters, and those that turn the direction of
    writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _finalize(value: object) -> object:
    """Text as ``printable``; markup, a subclass of str, is the template's own and stays."""
    return printable(value) if type(value) is str else value


def _cut(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _short(name: str) -> str:
    """The last folder and the name of a file."""
    return "/".join(name.rsplit("/", 2)[-2:])


def _wrapped(name: str) -> Markup:
    """A name that breaks into lines after its separators."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_.\-#])(?![/_.\-#])", printable(name)))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
