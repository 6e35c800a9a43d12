"""The working folder of an extraction, ``photos.h5.partial/``: lock, plan and shards.

The folder holds the frozen plan (``plan.json``, ``plan.jsonl``), the settings (``run.json``), one
file per finished shard and at most one per unfinished shard. Every file is written atomically, so
the next run resumes after a kill at any point.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from embedkit.errors import StoreCorruptError, StoreFormatError
from embedkit.store.format import StoreCounts, StoreMeta
from embedkit.store.manifest import MANIFEST, ShardEntry, encode_manifest
from embedkit.store.merge import merge_shards
from embedkit.store.reader import ShardFile, shard_problems
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.utils.atomic_write import commit_bytes, sync_folder
from embedkit.utils.locks import LOCK, lock_folder
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embedkit.types import ImageFailure

__all__ = ["PartialStore"]

_RUN, _PLAN = "run.json", "plan.json"
_REPLACED = "replaced"  # the folder that overwriting replaces, until it is replaced
_OWN_NAMES = re.compile(
    r"plan\.jsonl?|run\.json|manifest\.json|replaced|shard-\d+(\.unfinished)?\.h5|\..*\.tmp|plan.*\.tmp"
)


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
        """The working folder of ``output``, created if missing, and locked for one writer.

        Raises:
            StoreLockedError: Another process is writing the same store.
            StoreError: The folder can't be made.
        """
        partial = cls(output)
        lock = lock_folder(partial.folder, output)
        mine = partial._lock_file()
        try:
            partial._tidy()
            yield partial
        finally:
            # If the folder was removed, the next writer may have recreated it by now.
            if partial._lock_file() == mine and not partial._is_begun():
                partial.discard()
            lock.release()

    def freeze_meta(self, meta: StoreMeta, listing: Mapping[str, str | None]) -> None:
        """Writes the settings; called once, when the plan is frozen.

        Args:
            meta: Metadata of the store.
            listing: The settings by which the source was listed.
        """
        run = {"meta": meta.to_config(), "listing": dict(listing)}
        commit_bytes(self.folder / _RUN, json.dumps(run, indent=1).encode())

    def frozen_meta(self) -> tuple[StoreMeta, dict[str, str | None]] | None:
        """The settings and the listing options of an interrupted run, if there is one."""
        try:
            run = json.loads((self.folder / _RUN).read_bytes())
            return StoreMeta.from_config(run["meta"]), dict(run["listing"])
        except FileNotFoundError:
            return None
        except (KeyError, ValueError, TypeError, RecursionError, StoreFormatError) as exc:
            raise StoreCorruptError(
                f"{self.folder / _RUN}: can't be read ({exc}); start again with overwrite=True"
            ) from exc

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
        commit_bytes(self._unfinished_path(number), encode_shard(content))

    def commit(self, number: int, content: ShardContent) -> None:
        """Saves a finished shard, durably."""
        commit_bytes(self._shard_path(number), encode_shard(content))
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
        if self.output.is_dir():
            self._set_aside()
        if num_shards == 1:
            self._shard_path(0).replace(self.output)
            sync_folder(self.output.parent)
        else:
            paths = [self._shard_path(number) for number in range(num_shards)]
            merge_shards(paths, self.output, self.folder)
        self.discard()

    def _finish_folder(self, num_shards: int) -> None:
        """Makes the folder ``output`` of all shards with their manifest."""
        for number in range(num_shards):
            self._unfinished_path(number).unlink(missing_ok=True)
        numbers = track(range(num_shards), "hashing", num_shards, unit="shards")
        entries = [self._entry(number) for number in numbers]
        with closing(ShardFile(self._shard_path(0))) as first:
            manifest = encode_manifest(first.meta, entries)
        commit_bytes(self.folder / MANIFEST, manifest)
        self._take_name()

    def _take_name(self) -> None:
        """Renames a complete folder to ``output``, including the lock file that is held."""
        if self.output.exists():
            self._set_aside()
        self.folder.replace(self.output)
        sync_folder(self.output.parent)
        self._remove_tools()

    def _remove_tools(self) -> None:
        """Removes from a finished folder what only the work on it needed."""
        for name in (_REPLACED, _PLAN, "plan.jsonl", _RUN, LOCK):
            _remove(self.output / name)

    def _set_aside(self) -> None:
        """Moves away what ``output`` was before, where a rename alone can't replace it."""
        _remove(self.folder / _REPLACED)
        self.output.replace(self.folder / _REPLACED)

    def discard(self) -> None:
        """Removes the folder; the plan first, so that no partial run remains."""
        self.clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # the next writer uses it already, or it holds another file
            self.folder.rmdir()

    def clear(self) -> None:
        """Removes the files of a run, and nothing else; keeps the lock."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if _OWN_NAMES.fullmatch(path.name):
                _remove(path)

    def _entry(self, number: int) -> ShardEntry:
        path = self._shard_path(number)
        with closing(ShardFile(path)) as shard:
            counts = shard.counts
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ShardEntry(path.name, counts.embedded, counts.failed, counts.skipped, digest)

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.h5"

    def _unfinished_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.unfinished.h5"

    def _tidy(self) -> None:
        """Completes the last steps of a run that was killed during them."""
        if (self.folder / MANIFEST).exists():
            (self.folder / MANIFEST).unlink()  # all shards are there: the run soon ends again
        if (self.output / MANIFEST).exists():
            self._remove_tools()
        for path in self.folder.glob(".*.tmp"):
            path.unlink()
        if not self._is_begun():
            self.clear()

    def _is_begun(self) -> bool:
        """Whether there is an interrupted run to resume."""
        return (self.folder / _PLAN).exists() and (self.folder / _RUN).exists()

    def _lock_file(self) -> tuple[int, int] | None:
        """Which file the lock is; None if there is none."""
        try:
            found = (self.folder / LOCK).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
