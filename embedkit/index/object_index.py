"""The working folder of an index that is written to an object store: ``s3://bucket/a.index``.

The index is written whole here, then uploaded, its manifest last. Its files have names that no
other build gives, so that neither an index that is replaced nor another process is disturbed.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from embedkit.errors import IndexCorruptError, IndexFileError
from embedkit.index.file_io import writing_errors
from embedkit.index.generation import ContentWriter
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.working_dir import PartialIndex
from embedkit.sources.io import transfer
from embedkit.store.object_cache import find
from embedkit.utils.progress import track
from embedkit.utils.working_dir import remove

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import FileLock

__all__ = ["ObjectIndex"]

_NEW, _MARK = "new", "mark"


class ObjectIndex(PartialIndex):
    """The working folder of an index at a URL; get it from ``ObjectIndex.locked``.

    Args:
        output: Its local place, by `place_of`.
        url: The index.
    """

    def __init__(self, output: Path, url: str) -> None:
        super().__init__(output)
        self.url = url

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def manifest(self) -> IndexManifest | None:
        """That of the index at the URL; None if there is none."""
        return None if find(self.url) is None else IndexManifest.of(self.url)

    @contextmanager
    def new_index(self, *, overwrite: bool) -> Iterator[ContentWriter]:
        """A folder to write the index to, which is uploaded when the block ends.

        Raises:
            IndexFileError: Another process has written an index there, which isn't replaced.
            StoreError: It can't be uploaded.
        """
        folder = self.path(_NEW)
        remove(folder)
        folder.mkdir()
        yield ContentWriter(folder, mark=self._mark())
        before = self._files() if overwrite else set()
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
        for name in track(names, "uploading", len(names), unit="files"):
            transfer.upload(folder / name, f"{self.url}/{name}")
        self._switch((folder / MANIFEST).read_bytes(), names, overwrite=overwrite)
        for name in before - {*names}:
            transfer.delete(f"{self.url}/{name}")

    def _files(self) -> set[str]:
        """The names of the files of the index that is there; none of a damaged one."""
        with suppress(IndexCorruptError):
            if (manifest := self.manifest()) is not None:
                return {entry.name for entry in manifest.files.values()}
        return set()

    def _switch(self, manifest: bytes, names: list[str], *, overwrite: bool) -> None:
        """Uploads the manifest, by which the index is there."""
        url = f"{self.url}/{MANIFEST}"
        if overwrite:
            transfer.put(url, manifest)
        elif not transfer.create(url, manifest) and transfer.read(url) != manifest:
            for name in names:
                transfer.delete(f"{self.url}/{name}")
            raise IndexFileError(
                f"{self.url}: another process has just written it; overwrite=True replaces it"
            )

    def _mark(self) -> str:
        """What the names of the files hold: of this build alone, the same when it is resumed."""
        path = self.path(_MARK)
        if not path.exists():
            self.keep(_MARK, f"-{secrets.token_hex(4)}".encode())
        return path.read_text()

    def _lock(self, *, wait: bool = False) -> FileLock:
        with writing_errors(self.folder.parent):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        return super()._lock(wait=wait)
