"""Lists the images of zip archives from their directory, without extracting anything."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from embedkit.sources.base import Source
from embedkit.sources.image_suffixes import is_repeated_image
from embedkit.sources.io import storage
from embedkit.sources.naming import UniqueNames, first_folder, is_hidden, with_slashes
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ZIP_ERRORS", "ZipSource", "member_name"]

ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError)
"""Exceptions of ``zipfile`` for damaged, encrypted or unknown members, besides ``OSError``."""

_UTF8_FLAG = 0x800


def member_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name as it is in the archive, names that are not UTF-8 included."""
    if info.flag_bits & _UTF8_FLAG:
        return info.filename
    # Without the flag zipfile reads the bytes as code page 437; most archives hold UTF-8 anyway.
    return info.filename.encode("cp437", "replace").decode("utf-8", "surrogateescape")


class ZipSource(Source):
    """The members of one zip archive.

    Args:
        path: A path or URL.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def scan(self) -> Iterator[ImageRecord]:
        """List the members in the order of the archive's directory."""
        try:
            with storage.open_random(self.path) as raw, zipfile.ZipFile(raw) as archive:
                infos = archive.infolist()
        except (OSError, ValueError, *ZIP_ERRORS) as exc:
            problem = f"zip archive can't be read: {storage.reason_of(exc)}"
            yield ImageRecord(id=self.path, path=self.path, kind="zip", problem=problem)
            return
        yield from self._records(infos)

    def _records(self, infos: list[zipfile.ZipInfo]) -> Iterator[ImageRecord]:
        names = UniqueNames()
        for index, info in enumerate(infos):
            name = member_name(info)
            if with_slashes(name).endswith("/") or is_hidden(with_slashes(name)):
                continue
            image_id = f"{self.path}#{names.add(name)}"
            yield ImageRecord(
                id=image_id,
                path=self.path,
                kind="zip",
                nbytes=info.file_size,
                key=str(index),
                label=first_folder(with_slashes(name)),
                named=is_repeated_image(name, image_id),
            )
