"""The working folder of an extraction, ``photos.h5.partial/``: plan, settings and shards.

The folder holds the frozen plan (``plan.json``, ``plan.jsonl``), the settings (``run.json``), one
file per finished shard and at most one per unfinished shard.
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.store.format import StoreCounts, StoreMeta
from embedkit.store.manifest import MANIFEST, encode_manifest
from embedkit.store.merge import merge_shards
from embedkit.store.reader import ShardFile, entry_of, shard_problems
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.utils.atomic_write import atomic_file, sync_folder
from embedkit.utils.progress import track
from embedkit.utils.working_dir import LOCK, WorkingDir, remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embedkit.types import ImageFailure

__all__ = ["PartialStore"]

_PLAN, _LINES = "plan.json", "plan.jsonl"
_WHOLE = "whole.h5"  # all shards merged
_REPLACED = "replaced"  # the folder that overwriting replaces, until it is replaced


class PartialStore(WorkingDir):
    """The working folder of one store; get it from ``PartialStore.locked``."""

    own_names = re.compile(
        r"listing|plan\.jsonl?|manifest\.json|replaced|whole\.h5|shard-\d+(\.unfinished)?\.h5|plan.*\.tmp"
    )

    def freeze_meta(
        self, meta: StoreMeta, listing: Mapping[str, str | None], updates: str = ""
    ) -> None:
        """Writes the settings; called once, when the plan is frozen.

        Args:
            meta: Metadata of the store.
            listing: The settings by which the source was listed.
            updates: The fingerprint of the store that the run updates; empty for a new store.
        """
        about = {"updates": updates} if updates else {}
        self.freeze({"meta": meta.to_config(), "listing": dict(listing), **about})

    def updated_fingerprint(self) -> str:
        """The fingerprint of the store that an interrupted run updates; empty if it is no update.

        Raises:
            StoreCorruptError: The settings can't be read.
        """
        return str((self.frozen() or {}).get("updates", ""))

    def frozen_meta(self) -> tuple[StoreMeta, dict[str, str | None]] | None:
        """The settings and the listing options of an interrupted run, if there is one."""
        run = self.frozen()
        if run is None:
            return None
        try:
            return StoreMeta.from_config(run["meta"]), dict(run["listing"])
        except (KeyError, ValueError, TypeError, StoreFormatError) as exc:
            raise self._unreadable(exc) from exc

    def finished_counts(self, number: int) -> StoreCounts | None:
        """The counts of a shard, if it is finished."""
        if not self._shard_path(number).exists():
            return None
        with closing(ShardFile(self._shard_path(number))) as shard:
            return shard.counts

    def unfinished(self, number: int) -> ShardFile | None:
        """The saved part of an unfinished shard, verified.

        Raises:
            StoreCorruptError: The file is damaged.
        """
        path = self._unfinished_path(number)
        if not path.exists():
            return None
        for problem in shard_problems(path):
            raise StoreCorruptError(f"{path}: {problem}; delete this file and run again")
        return ShardFile(path)

    def commit_unfinished(self, number: int, content: ShardContent) -> None:
        """Saves the finished part of a shard; replaces the previous save."""
        self.keep(self._unfinished_path(number).name, encode_shard(content))

    def commit(self, number: int, content: ShardContent) -> None:
        """Saves a finished shard, durably."""
        self.keep(self._shard_path(number).name, encode_shard(content))
        self._unfinished_path(number).unlink(missing_ok=True)

    def failures(self, num_shards: int) -> Iterator[ImageFailure]:
        """The failures of all shards, which must be finished."""
        for number in range(num_shards):
            with closing(ShardFile(self._shard_path(number))) as shard:
                yield from shard.failures()

    def finish(self, num_shards: int, *, sharded: bool) -> None:
        """Makes the store of all shards: one file, or a folder with a manifest."""
        if sharded:
            self._finish_folder(num_shards)
        else:
            self._finish_file(num_shards)

    def _finish_file(self, num_shards: int) -> None:
        """Makes the one file ``output`` of all shards, and removes the folder."""
        whole = self._shard_path(0)
        if num_shards > 1:
            whole = self.path(_WHOLE)
            merge_shards([self._shard_path(number) for number in range(num_shards)], whole)
        self._take_place(whole, aside=self.output.is_dir())  # not before the new store is whole
        self.discard()

    def _finish_folder(self, num_shards: int) -> None:
        """Makes the folder ``output`` of all shards with their manifest."""
        for number in range(num_shards):
            self._unfinished_path(number).unlink(missing_ok=True)
        self.write_manifest(num_shards)
        self._take_name()

    def write_manifest(self, num_shards: int) -> None:
        """Makes the working folder a store of all shards, which must be finished."""
        numbers = track(range(num_shards), "hashing", num_shards, unit="shards")
        entries = [entry_of(self._shard_path(number)) for number in numbers]
        with closing(ShardFile(self._shard_path(0))) as first:
            manifest = encode_manifest(first.meta, entries)
        self.keep(MANIFEST, manifest)

    def _take_name(self) -> None:
        """Renames a complete folder to ``output``, including the lock file that is held."""
        self._take_place(self.folder, aside=self.output.exists())
        self._remove_tools()

    def _take_place(self, new: Path, *, aside: bool) -> None:
        """Renames to ``output``; what was there is back if that fails.

        Args:
            new: The new store, whole.
            aside: Whether a rename alone can't replace what is there.

        Raises:
            StoreError: It can't be renamed.
        """
        try:
            if aside:
                self._set_aside()
            new.replace(self.output)
            sync_folder(self.output.parent)
        except OSError as exc:
            self._put_back()
            raise StoreError(f"{self.output}: can't be written: {exc.strerror or exc}") from exc

    def _remove_tools(self) -> None:
        """Removes from a finished folder what only the work on it needed."""
        for name in (_REPLACED, _PLAN, _LINES, self.frozen_name, LOCK):
            remove(self.output / name)

    def _set_aside(self) -> None:
        """Moves away what ``output`` was before, where a rename alone can't replace it."""
        remove(self.folder / _REPLACED)
        self.output.replace(self.folder / _REPLACED)

    @contextmanager
    def shard_file(self, number: int) -> Iterator[IO[bytes]]:
        """A file to write a shard of any size to; it is there when the block ends."""
        with atomic_file(self._shard_path(number)) as file:
            yield file

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.h5"

    def _unfinished_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.unfinished.h5"

    def tidy(self) -> None:
        """Completes the last steps of a run that was killed during them."""
        super().tidy()
        self.path(MANIFEST).unlink(missing_ok=True)  # all shards are there: the run soon ends again
        if (self.output / MANIFEST).exists():
            self._remove_tools()
        if not self.is_begun:
            self.clear()

    def clear(self, *kept: str) -> None:
        """Removes the files of a run; puts back what was there before, if nothing took its place.

        What is replaced steps aside for the moment between two renames.
        """
        self._put_back()
        super().clear(*kept)

    def _put_back(self) -> None:
        if self.path(_REPLACED).exists() and not self.output.exists():
            self.path(_REPLACED).replace(self.output)
