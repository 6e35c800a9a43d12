"""The working folder of an extraction, ``photos.h5.partial/``: plan, settings and shards.

The folder holds the frozen plan (``plan.json``, ``plan.jsonl``), the settings (``run.json``), one
file per finished shard and at most one per unfinished shard.
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError, StoreLockedError
from embedkit.store.format import StoreCounts, StoreMeta
from embedkit.store.manifest import MANIFEST, encode_manifest, read_manifest
from embedkit.store.merge_shards import merge_shards
from embedkit.store.reader import ShardFile, entry_of, shard_problems
from embedkit.store.seal import is_sealed
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.utils.atomic_write import atomic_file, sync_folder
from embedkit.utils.progress import track
from embedkit.utils.working_dir import LOCK, Lock, WorkingDir, remove, take_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embedkit.types import ImageFailure

__all__ = ["PartialStore"]

_PLAN, _LINES = "plan.json", "plan.jsonl"
_WHOLE = "whole.h5"  # all shards merged
_PART_LOCKS = "part-*-of-*.lock"  # of processes that write parts of the same store
_ISOLATE = "isolate"
_REPLACED = "replaced"  # the folder that overwriting replaces, until it is replaced


class PartialStore(WorkingDir):
    """The working folder of one store; get it from ``PartialStore.locked``."""

    own_names = re.compile(
        r"listing|plan\.jsonl?|manifest\.json|replaced|whole\.h5|shard-\d+(\.unfinished|\.g\d+)?\.h5"
        r"|plan.*\.tmp|part-\d+-of-\d+\.lock"
    )

    def freeze_meta(
        self,
        meta: StoreMeta,
        listing: Mapping[str, str | None],
        updates: str = "",
        parts: int = 1,
    ) -> StoreMeta:
        """Writes the settings; called once, when the plan is frozen.

        Args:
            meta: Metadata of the store.
            listing: The settings by which the source was listed.
            updates: The fingerprint of the store that the run updates; empty for a new store.
            parts: How many processes were to share the work.

        Returns:
            ``meta``, or that of a machine that has just begun the same run.
        """
        about: dict[str, object] = {"updates": updates} if updates else {}
        if parts > 1:
            about["parts"] = parts
        self.freeze({"meta": meta.to_config(), "listing": dict(listing), **about})
        return meta

    def exists(self) -> bool:
        """Whether the store is there."""
        return self.output.exists()

    def check_replaceable(self) -> None:
        """Rejects an output that isn't a store; a damaged store may be replaced.

        Raises:
            StoreError: It is something else.
        """
        if self.output.is_dir():
            read_manifest(self.output)
        elif self.output.exists() and not is_sealed(self.output):
            raise StoreError(
                f"{self.output}: exists and is no embedkit store, so it isn't replaced"
            )

    def forget(self) -> None:
        """Removes all that is left of an unfinished run."""
        self.clear()

    def refresh(self) -> None:
        """Called before the finished shards are counted; what is in the folder is known."""

    def share(self) -> None:
        """Called when the run is frozen; a folder with one writer has nothing to do then."""

    @property
    def isolate_mark(self) -> Path:
        """A file that is there after an image has stopped a whole process of this run."""
        return self.folder / _ISOLATE

    def parts_at_work(self) -> list[str]:
        """The parts, such as ``3/8``, that other processes are writing into this folder."""
        return [
            path.stem.removeprefix("part-").replace("-of-", "/")
            for path in sorted(self.folder.glob(_PART_LOCKS))
            if _is_held(path)
        ]

    def missing(self, num_shards: int) -> set[int]:
        """The numbers of the shards that aren't finished."""
        return {one for one in range(num_shards) if not self.shard_path(one).exists()}

    def _lock(self, *, wait: bool = False) -> Lock:
        """The held lock; only the processes of parts, which wait, take it beside other parts."""
        lock = super()._lock(wait=wait)
        if not wait and (parts := self.parts_at_work()):
            lock.release()
            raise StoreLockedError(f"{self.output}: another process is writing part {parts[0]}")
        return lock

    def updated_fingerprint(self) -> str:
        """The fingerprint of the store that an interrupted run updates; empty if it is no update.

        Raises:
            StoreCorruptError: The settings can't be read.
        """
        return str((self.frozen() or {}).get("updates", ""))

    @property
    def frozen_parts(self) -> int:
        """How many processes were to share the work of the frozen run."""
        return int((self.frozen() or {}).get("parts", 1))

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
        if not self.shard_path(number).exists():
            return None
        with closing(ShardFile(self.shard_path(number))) as shard:
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
        self.keep(self.shard_path(number).name, encode_shard(content))
        self._unfinished_path(number).unlink(missing_ok=True)

    def num_embedded(self, num_shards: int) -> int:
        """The rows of all shards, which must be finished."""
        counts = map(self.finished_counts, range(num_shards))
        return sum(one.embedded for one in counts if one is not None)

    def failures(self, num_shards: int) -> Iterator[ImageFailure]:
        """The failures of all shards, which must be finished."""
        for number in range(num_shards):
            with closing(ShardFile(self.shard_path(number))) as shard:
                yield from shard.failures()

    def finish(self, num_shards: int, *, sharded: bool, first: int = 0) -> None:
        """Makes the store of all shards: one file, or a folder with a manifest.

        Args:
            num_shards: How many there are.
            sharded: Whether it is a folder.
            first: The number of the first one; others come after it, of a part of a plan.
        """
        if sharded:
            self._finish_folder(num_shards)
        else:
            self._finish_file(range(first, first + num_shards))

    def _finish_file(self, numbers: range) -> None:
        """Makes the one file ``output`` of some shards, and removes the folder."""
        whole = self.shard_path(numbers[0])
        if len(numbers) > 1:
            whole = self.path(_WHOLE)
            merge_shards([self.shard_path(number) for number in numbers], whole)
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
        entries = [entry_of(self.shard_path(number)) for number in numbers]
        with closing(ShardFile(self.shard_path(0))) as first:
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
        for name in (_ISOLATE, _REPLACED, _PLAN, _LINES, self.frozen_name, LOCK):
            remove(self.output / name)
        for path in self.output.glob(_PART_LOCKS):
            remove(path)

    def _set_aside(self) -> None:
        """Moves away what ``output`` was before, where a rename alone can't replace it."""
        remove(self.folder / _REPLACED)
        sync_folder(self.output.parent)  # the working folder must outlast what lies in it
        self.output.replace(self.folder / _REPLACED)

    @contextmanager
    def shard_file(self, number: int) -> Iterator[IO[bytes]]:
        """A file to write a shard of any size to; it is there when the block ends."""
        with atomic_file(self.shard_path(number)) as file:
            yield file

    def shard_path(self, number: int) -> Path:
        """The file of a finished shard."""
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

    def discard(self) -> None:
        """Removes the folder."""
        self.isolate_mark.unlink(missing_ok=True)  # `clear`, with which a run begins anew, keeps it
        super().discard()

    def _put_back(self) -> None:
        if self.path(_REPLACED).exists() and not self.output.exists():
            self.path(_REPLACED).replace(self.output)


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        lock = take_lock(path)
    except FileNotFoundError:  # the store was completed in between
        return False
    if lock is not None:
        lock.release()
    return lock is None
