"""Paths that are URLs: of object stores, where stores and indexes may lie, too.

A URL may have gone through `Path`, which makes ``s3:/bucket/x`` of ``s3://bucket/x``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from embedkit.errors import StoreError

if TYPE_CHECKING:
    from embedkit.errors import EmbedkitError

__all__ = ["display_name", "local_path", "object_url", "refuse_url"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def object_url(path: str | os.PathLike[str]) -> str | None:
    """The URL that a path stands for, without ``/`` at its end; None for a path of this machine."""
    match = _SCHEME.match(name := os.fsdecode(path))
    if match is None or match[1].lower() == "file" or os.path.lexists(name):
        return None
    return f"{match[1]}://{name[match.end() :].rstrip('/')}"


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path of this machine; ``file://`` URLs are such paths, and other URLs stay as they are."""
    match = _SCHEME.match(name := os.fsdecode(path))
    if match is None or match[1].lower() != "file" or os.path.lexists(name):
        return Path(path)
    rest = name[match.end() :]
    if name.startswith("file://localhost/"):
        rest = rest.removeprefix("localhost/")
    return Path("/" + unquote(rest, errors="surrogateescape"))


def display_name(path: str | os.PathLike[str]) -> str:
    """How to name a path in messages: a URL with both of its slashes."""
    return object_url(path) or os.fsdecode(path)


def refuse_url(path: str | os.PathLike[str], error: type[EmbedkitError] = StoreError) -> None:
    """Refuses an output that can only be written to this machine, and would be named as a URL.

    Raises:
        EmbedkitError: ``error``: the path is a URL.
    """
    if (url := object_url(path)) is not None:
        raise error(
            f"{url}: only stores and indexes are written to a URL; write to a local path, then "
            "copy it there"
        )
