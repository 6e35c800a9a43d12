"""Links from a page to an image's file, safe whatever the file is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from embedkit.sources.image_suffixes import has_image_name

if TYPE_CHECKING:
    from embedkit.types import ImageRecord

__all__ = ["link_to"]

_OF_A_URL = "%/:?#[]@!$&'()*+,;=~"  # what may stand in a URL as it is


def link_to(record: ImageRecord, page: Path) -> str:
    """The address of an image's own file, as a link of a page.

    A file is linked relative to the page if the two share a folder below the root, so that both
    can be moved together; otherwise by its whole path. Each part is percent-encoded, so that no
    name can stand for a scheme such as ``javascript:``. Only names that end like an image's are
    linked: a browser would run a file called ``.html`` or ``.svg``.

    Args:
        record: Where the image lies.
        page: Where the page lies, or will lie.

    Returns:
        The address; empty for a member of an archive, and for what a browser can't open.
    """
    if record.kind != "file" or not has_image_name(record.path):
        return ""
    if record.path.lower().startswith(("http://", "https://")):
        return quote(record.path, safe=_OF_A_URL, errors="replace")
    if "://" in record.path:
        return ""
    file, folder = Path(record.path).absolute(), page.absolute().parent
    if _share_a_folder(file, folder):
        return _quoted(os.path.relpath(file, folder))
    return "file:///" + _quoted(str(file)).lstrip("/")


def _share_a_folder(file: Path, folder: Path) -> bool:
    return len(file.parts) > 1 and len(folder.parts) > 1 and file.parts[:2] == folder.parts[:2]


def _quoted(path: str) -> str:
    return quote(os.fsencode(path.replace(os.sep, "/")))
