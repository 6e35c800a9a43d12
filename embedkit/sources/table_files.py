"""What all tables of facts about images share: which rows are which image's, how CSV is read."""

from __future__ import annotations

import io
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO

from embedkit.sources.io import storage
from embedkit.sources.list_entries import marked_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embedkit.types import ImageRecord

__all__ = ["ID_COLUMNS", "folders_of", "image_names", "member_of", "open_csv", "plain_name"]

ID_COLUMNS = ("id", "path", "file", "filename", "file_name", "image")
"""The columns that may hold ids, where none is named, the first one first."""


def plain_name(name: str) -> str:
    r"""A name as it is compared.

    A leading ``./``, ``\`` for ``/`` and the Unicode form of accents make no difference.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return name.replace("\\", "/").removeprefix("./")


def folders_of(roots: Iterable[str]) -> tuple[str, ...]:
    """Return how the ids of images below some folders begin."""
    return tuple(storage.join(root, "") for root in roots)


def image_names(record: ImageRecord, folders: Sequence[str]) -> Iterator[str]:
    """Yield the names that a table may have for an image, the likeliest first.

    Args:
        record: The image.
        folders: Those that the table's paths may be relative to, by ``folders_of``.
    """
    yield record.id
    member = member_of(record)
    if member is not None:
        yield member
    for folder in folders:
        if record.id.startswith(folder):
            yield record.id[len(folder) :]


def member_of(record: ImageRecord) -> str | None:
    """Return an image's name in its archive; None for a file."""
    return None if record.kind == "file" else record.id[len(record.path) + 1 :]


@contextmanager
def open_csv(path: str) -> Iterator[TextIO]:
    """Open a CSV file or URL: UTF-8, or what its mark says; other bytes stay as they are."""
    with (
        storage.open_random(path) as raw,
        io.TextIOWrapper(raw, _encoding_of(raw), "surrogateescape", newline="") as text,
    ):
        yield text


def _encoding_of(raw: BinaryIO) -> str:
    encoding = marked_encoding(raw.read(4)) or "utf-8-sig"
    raw.seek(0)
    return encoding
