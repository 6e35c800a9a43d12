"""Where an update writes a store: over the local one, or to the URL that it was read from."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.sources.io import transfer
from embedkit.store.manifest import MANIFEST
from embedkit.store.object_cache import address_of, find
from embedkit.utils.atomic_write import commit_bytes, sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.store.manifest import ShardEntry
    from embedkit.store.store import EmbeddingStore
    from embedkit.store.working_dir import PartialStore

__all__ = ["ObjectTarget", "UpdateTarget", "target_of"]

_SHARD = re.compile(r"shard-\d+(?:\.g(\d+)(?:-[0-9a-f]{8})?)?\.h5")
_TEMPORARY = re.compile(r"\.shard-.*\.tmp")


def target_of(store: EmbeddingStore, partial: PartialStore) -> UpdateTarget:
    """Where the store is written to after an update.

    Args:
        store: The store before.
        partial: The working folder of the update.
    """
    url = address_of(store.path)
    return UpdateTarget(store, partial) if url is None else ObjectTarget(store, partial, url)


class UpdateTarget:
    """A local store.

    Attributes:
        file: Where a store of one file is written until it is whole.
        folder: Where the shards of a folder are written.
    """

    def __init__(self, store: EmbeddingStore, partial: PartialStore) -> None:
        self._store, self.file, self.folder = store, partial.path("whole.h5"), store.path

    def take_file(self) -> None:
        """Puts ``file`` in the place of the store."""
        self.file.replace(self._store.path)
        sync_folder(self._store.path.parent)

    def take_shard(self, entry: ShardEntry) -> ShardEntry:
        """Puts a written shard beside those of the store; gives its line of the manifest."""
        return entry

    def switch(self, manifest: bytes, entries: Sequence[ShardEntry]) -> None:
        """Makes ``manifest`` the store's; removes shards that neither store has."""
        commit_bytes(self.folder / MANIFEST, manifest)
        named = self._named(entries)
        for path in self.folder.iterdir():
            is_own = _SHARD.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
            if is_own and path.name not in named:
                path.unlink()

    def _named(self, entries: Sequence[ShardEntry]) -> set[str]:
        """The shards after the update, and before: who has the store open goes on reading it."""
        return {entry.name for entry in (*entries, *self._store.shards)}


class ObjectTarget(UpdateTarget):
    """A store at a URL; what is written to it lies in the working folder until it is uploaded.

    The names of new shards hold their hashes, so that two updates at once don't mix. The one that
    ends last finds that the store has changed.
    """

    def __init__(self, store: EmbeddingStore, partial: PartialStore, url: str) -> None:
        super().__init__(store, partial)
        self.folder, self._url = partial.folder, url

    def take_file(self) -> None:
        """Uploads ``file``, which replaces the store.

        Raises:
            StoreError: Another process has replaced the store, or it can't be uploaded.
        """
        self._refuse_changed()
        transfer.upload(self.file, self._url)

    def take_shard(self, entry: ShardEntry) -> ShardEntry:
        """Uploads a shard, and removes it here.

        Raises:
            StoreError: Another process has changed the store, or it can't be uploaded.
        """
        self._refuse_changed()
        path = self.folder / entry.name
        named = replace(entry, name=f"{path.stem}-{entry.sha256[:8]}.h5")
        transfer.upload(path, f"{self._url}/{named.name}")
        path.unlink()
        return named

    def switch(self, manifest: bytes, entries: Sequence[ShardEntry]) -> None:
        """Makes ``manifest`` the store's; removes shards that neither store has.

        Those of the new generation stay: another update may be about to name them, in vain.

        Raises:
            StoreError: Another process has changed the store, or it can't be uploaded.
        """
        self._refuse_changed()
        transfer.put(f"{self._url}/{MANIFEST}", manifest)
        named = self._named(entries)
        for name in transfer.list_names(self._url):
            match = _SHARD.fullmatch(name)
            is_older = match and int(match[1] or 0) <= self._store.meta.generation
            if is_older and name not in named:
                transfer.delete(f"{self._url}/{name}")

    def _refuse_changed(self) -> None:
        if find(self._url) != self._store.path:
            raise StoreError(
                f"{self._url}: another process has changed it since this update began; run the "
                "same command again"
            )
