"""A store in the making: ``photos.h5.partial/``, with its lock, its shards and how it ends.

The folder holds the frozen plan (``plan.json``, ``plan.jsonl``), how the rows are made
(``run.json``), one file for each finished shard and at most one for an unfinished one. Every file
appears whole or not at all, so that whatever kills the process, the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from embedkit.errors import StoreCorruptError, StoreError, StoreLockedError
from embedkit.store.atomic import commit_bytes, sync_folder
from embedkit.store.format import FORMAT_NAME, FORMAT_VERSION, StoreCounts, StoreMeta
from embedkit.store.merge import merge_shards
from embedkit.store.read import ShardFile
from embedkit.store.store import MANIFEST, ShardEntry
from embedkit.store.write import ShardContent, encode_shard

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PartialStore"]

_RUN, _PLAN, _LOCK = "run.json", "plan.json", "lock"


class PartialStore:
    """The working folder of one output; get it from ``PartialStore.locked``.

    Attributes:
        output: The file (or folder) that the store will be.
        folder: ``<output>.partial``.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".partial")

    @classmethod
    @contextmanager
    def locked(cls, output: Path) -> Iterator[PartialStore]:
        """The working folder of ``output``, made if need be, for one writer at a time.

        Raises:
            StoreLockedError: Another process is writing the same store.
            StoreError: The folder can't be made.
        """
        partial = cls(output)
        while True:
            lock = partial._acquire()
            try:
                if not partial._owns(lock):
                    continue  # the last writer finished and removed the folder meanwhile
                partial._tidy()
                yield partial
                return
            finally:
                partial._remove_if_empty()
                lock.release()

    def freeze_meta(self, meta: StoreMeta) -> None:
        """Writes down how the rows are made; to be done once, before the plan is frozen."""
        commit_bytes(self.folder / _RUN, json.dumps(meta.to_config(), indent=1).encode())

    def frozen_meta(self) -> StoreMeta | None:
        """How the rows are made, if a run was begun."""
        try:
            return StoreMeta.from_config(json.loads((self.folder / _RUN).read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as exc:
            raise StoreCorruptError(
                f"{self.folder / _RUN}: can't be read ({exc}); start again with --overwrite"
            ) from exc

    def has_shard(self, number: int) -> bool:
        """Whether a shard is finished."""
        return self._shard_path(number).exists()

    def finished_counts(self, number: int) -> StoreCounts:
        """The counts of a finished shard."""
        shard = ShardFile(self._shard_path(number))
        shard.close()
        return shard.counts

    def unfinished(self, number: int) -> ShardFile | None:
        """What was done of a shard when a run was interrupted, checked.

        Raises:
            StoreCorruptError: The file was damaged since.
        """
        path = self._unfinished_path(number)
        if not path.exists():
            return None
        shard = ShardFile(path)
        _refuse_damage(shard)
        return shard

    def commit_unfinished(self, number: int, content: ShardContent) -> None:
        """Saves what is done of a shard; replaces what was saved before."""
        commit_bytes(self._unfinished_path(number), encode_shard(content))

    def commit(self, number: int, content: ShardContent) -> None:
        """Saves a finished shard, durably."""
        commit_bytes(self._shard_path(number), encode_shard(content))
        self._unfinished_path(number).unlink(missing_ok=True)

    def finish(self, num_shards: int, *, sharded: bool) -> None:
        """Makes the store of all shards: one file, or a folder with a manifest."""
        if sharded:
            self._finish_folder(num_shards)
        else:
            self._finish_file(num_shards)

    def _finish_file(self, num_shards: int) -> None:
        """Makes the one file ``output`` of all shards, and removes the folder."""
        if num_shards == 1:
            self._shard_path(0).replace(self.output)
            sync_folder(self.output.parent)
        else:
            merge_shards([self._shard_path(i) for i in range(num_shards)], self.output)
        self.discard()

    def _finish_folder(self, num_shards: int) -> None:
        """Makes the folder ``output`` of all shards with their manifest."""
        entries = [self._entry(number) for number in range(num_shards)]
        first = ShardFile(self._shard_path(0))
        manifest = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "meta": first.meta.to_config(),
            "shards": [
                {name: getattr(entry, name) for name in ShardEntry.__slots__} for entry in entries
            ],
        }
        first.close()
        commit_bytes(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        self._take_name()

    def _take_name(self) -> None:
        """Renames a folder that is whole to ``output``."""
        for path in self.folder.iterdir():
            if path.name != MANIFEST and path.suffix != ".h5":
                path.unlink()
        self.folder.replace(self.output)
        sync_folder(self.output.parent)

    def discard(self) -> None:
        """Removes the folder with all that is in it; the plan first, lest half a run stays."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def clear(self) -> None:
        """Empties the folder, but stays its owner."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def _entry(self, number: int) -> ShardEntry:
        path = self._shard_path(number)
        shard = ShardFile(path)
        counts = shard.counts
        shard.close()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ShardEntry(path.name, counts.embedded, counts.failed, counts.skipped, digest)

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.h5"

    def _unfinished_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.unfinished.h5"

    def _acquire(self) -> FileLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{self.folder}: can't be made: {exc.strerror}") from exc
        lock = FileLock(self.folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as exc:
            raise StoreLockedError(
                f"{self.output}: another process is writing it (it holds {self.folder / _LOCK})"
            ) from exc
        return lock

    def _tidy(self) -> None:
        """Ends what a kill left between the last steps of an earlier run."""
        if (self.folder / MANIFEST).exists():
            self._take_name()
            self.folder.mkdir()
        elif not (self.folder / _PLAN).exists():
            self.clear()

    def _owns(self, lock: FileLock) -> bool:
        """Whether the lock that is held is a file that still stands in the folder."""
        return Path(lock.lock_file).exists()

    def _remove_if_empty(self) -> None:
        """Leaves no folder behind when nothing was begun."""
        if self.folder.exists() and {p.name for p in self.folder.iterdir()} <= {_LOCK}:
            self.discard()


def _refuse_damage(shard: ShardFile) -> None:
    for problem in shard.problems():
        shard.close()
        raise StoreCorruptError(f"{shard.path}: {problem}; delete this file and run again")
