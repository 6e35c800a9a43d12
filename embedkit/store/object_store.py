"""The working folders of stores that are written to an object store, such as ``s3://bucket/emb``.

A shard is written whole into the local working folder, then uploaded. Beside a sharded store lies
``<URL>.partial/`` as long as it is unfinished: ``run.json`` (the frozen settings), the plan, and a
receipt for each shard that was uploaded, whose name holds what the manifest will say of it. By
these, any machine continues the run; none needs to see the disk of another.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from embedkit.backbones.registry import cache_folder
from embedkit.errors import StoreError
from embedkit.sources.io import transfer
from embedkit.store.format import StoreMeta
from embedkit.store.manifest import MANIFEST, ShardEntry, encode_manifest, read_manifest
from embedkit.store.object_cache import find
from embedkit.store.reader import ShardFile, entry_of
from embedkit.store.working_dir import PartialStore
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.file_cache import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embedkit.sources.part import Part
    from embedkit.store.format import StoreCounts
    from embedkit.store.writer import ShardContent
    from embedkit.types import ImageFailure

__all__ = ["ObjectFile", "ObjectFolder", "place_of", "url_for_workers"]

_RUN, _PLAN, _LINES = "run.json", "plan.json", "plan.jsonl"
_PLAN_ID = "plan"
_RECEIPT = re.compile(r"shard-(\d+)\.(\d+)-(\d+)-(\d+)\.([0-9a-f]{64})")
_SEAL = b"embedkit store"
_SHARD = re.compile(r"shard-\d+(\.g\d+-[0-9a-f]{8})?\.h5")


def place_of(url: str, work_dir: Path | None = None, part: Part | None = None) -> Path:
    """Where the local files of what is written to a URL are, until they are uploaded.

    Args:
        url: A store or an index.
        work_dir: The folder for unfinished work; None is that in embedkit's cache.
        part: The part of a store; each has its own place.

    Raises:
        StoreError: The URL can't be that of a store or an index.
    """
    scheme, _, rest = url.partition("://")
    if "/" not in rest or {"", ".", ".."} & {*rest.split("/")}:
        raise StoreError(f"{url}: names nothing in a bucket; name it as in s3://bucket/folder")
    place = (work_dir or cache_folder() / "unfinished") / scheme / rest
    if part is None:
        return place
    return place.with_name(f"{place.name}.part-{part.number}-of-{part.of}")


def url_for_workers(partial: PartialStore) -> str:
    """The URL that all processes of a run upload their shards to; empty if they only save them."""
    return partial.url if isinstance(partial, ObjectFolder) else ""


class ObjectFile(PartialStore):
    """The working folder of a store that is one object.

    Args:
        url: The store.
        output: Its local place, by `place_of`.
    """

    def __init__(self, output: Path, url: str) -> None:
        super().__init__(output)
        self.url = url

    def exists(self) -> bool:
        """Whether the store is there, or a sharded one."""
        return transfer.state_of(self.url) is not None or self._is_sharded()

    def check_replaceable(self) -> None:
        """Rejects an object that isn't a store, and a sharded store."""
        if self._is_sharded():
            raise StoreError(
                f"{self.url}: is a sharded store; overwrite=True replaces it with sharded=True, or "
                "choose another output"
            )
        if self.exists() and transfer.read(self.url, len(_SEAL)) != _SEAL:
            raise StoreError(f"{self.url}: exists and is no embedkit store, so it isn't replaced")

    def check_name(self) -> None:
        """Rejects a name by which the store would not be found: a folder is looked for there."""
        if not self.url.lower().endswith((".h5", ".hdf5")) and not self._is_sharded():
            raise StoreError(f"{self.url}: a store of one file at a URL must be named *.h5")

    def _is_sharded(self) -> bool:
        return transfer.state_of(f"{self.url}/{MANIFEST}") is not None

    def put(self, new: Path, *, replace: bool) -> None:
        """Uploads the store, whole.

        Raises:
            StoreError: Something lies there that isn't replaced, or it can't be written.
        """
        if not transfer.upload(new, self.url, replace=replace):
            raise StoreError(
                f"{self.url}: another process has just written it; overwrite=True replaces it"
            )

    def _take_place(self, new: Path, *, aside: bool) -> None:
        del aside  # an object is replaced at once
        self.put(new, replace=True)


class ObjectFolder(PartialStore):
    """The working folder of a sharded store; its shards are uploaded as soon as they are whole.

    Args:
        output: Its local place, by `place_of`.
        url: The store.
    """

    def __init__(self, output: Path, url: str) -> None:
        super().__init__(output)
        self.url = url
        self._state = f"{url}.partial"
        self._sent: dict[int, ShardEntry] = {}
        self._replaces = self._is_helper = False

    def exists(self) -> bool:
        """Whether the store is there, complete."""
        return transfer.state_of(f"{self.url}/{MANIFEST}") is not None

    def check_replaceable(self) -> None:
        """Rejects a folder whose manifest isn't that of a store."""
        found = find(self.url)
        if found is not None:
            read_manifest(found)
        self._replaces = True

    def tidy(self) -> None:
        """Removes what killed runs left here, and takes over what any machine has begun."""
        super().tidy()
        self._join()

    def join(self) -> None:
        """Takes over the run that another process has begun, which may hold this folder's lock.

        That process hands out only shards that are missing, so none is looked for here.
        """
        self._is_helper = True
        if self.is_begun and self._begun() == self.path(_RUN).read_bytes():
            return
        lock = self._lock(wait=True)
        try:
            self._join()
        finally:
            lock.release()

    def freeze_meta(
        self,
        meta: StoreMeta,
        listing: Mapping[str, str | None],
        updates: str = "",
        parts: int = 1,
    ) -> StoreMeta:
        """Begins the run for all machines, unless another one does so at the same moment.

        Raises:
            StoreError: The other one has listed other images.
        """
        super().freeze_meta(meta, listing, updates, parts)
        if self._replaces:
            transfer.delete(f"{self.url}/{MANIFEST}")
        mine = self.path(_RUN).read_bytes()
        self._publish(mine)
        theirs = self._begun()
        if theirs is None or theirs == mine:
            return meta
        if json.loads(theirs)[_PLAN_ID] != json.loads(mine)[_PLAN_ID]:
            raise StoreError(
                f"{self.url}: another process has just begun it with other images or shard_rows; "
                "run again with the same ones"
            )
        self.keep(_RUN, theirs)
        frozen = self.frozen_meta()
        return meta if frozen is None else frozen[0]

    def freeze(self, settings: Mapping[str, Any]) -> None:
        """Writes the settings of a run, and which plan is theirs."""
        super().freeze({**settings, _PLAN_ID: file_sha256(self.path(_PLAN))})

    def refresh(self) -> None:
        """Finds out which shards all machines have uploaded until now."""
        if self._is_helper:
            return
        begun, there = self._begun(), set(transfer.list_names(self.url))
        names = [] if begun is None else transfer.list_names(self._run_folder(begun))
        entries = [_entry(match) for match in map(_RECEIPT.fullmatch, names) if match is not None]
        self._sent = {number: entry for number, entry in entries if entry.name in there}

    def missing(self, num_shards: int) -> set[int]:
        """The numbers of the shards that no machine has uploaded."""
        self.refresh()
        return {*range(num_shards)} - {*self._sent}

    @contextmanager
    def last(self) -> Iterator[bool]:
        """As `SharedStore.last`: whoever finds all shards there may write the manifest."""
        yield True
        self.clear()  # all that this process did is uploaded

    def finished_counts(self, number: int) -> StoreCounts | None:
        """The counts of a shard, if it is finished; one that wasn't uploaded yet is uploaded."""
        if number not in self._sent and self.shard_path(number).exists():
            self._send(number)
        return self._sent[number].counts if number in self._sent else None

    def commit(self, number: int, content: ShardContent) -> None:
        """Saves a finished shard, and uploads it."""
        super().commit(number, content)
        self._send(number)

    def num_embedded(self, num_shards: int) -> int:
        """The rows of all shards, which must be finished."""
        return sum(self._sent[number].embedded for number in range(num_shards))

    def failures(self, num_shards: int) -> Iterator[ImageFailure]:
        """The failures of all shards, which must be finished."""
        for number in range(num_shards):
            path = self.shard_path(number)
            self._download(f"{self.url}/{path.name}", path)
            with closing(ShardFile(path)) as shard:
                yield from shard.failures()

    def _finish_folder(self, num_shards: int) -> None:
        """Writes the manifest, by which the store is there, and removes what only the run needed.

        Several machines may do so at the same time: they write the same bytes.
        """
        frozen = self.frozen_meta()
        assert frozen is not None, "the run was begun"
        entries = [self._sent[number] for number in range(num_shards)]
        meta = StoreMeta.from_attributes(frozen[0].to_attributes())  # as a shard gives it back
        transfer.put(f"{self.url}/{MANIFEST}", encode_manifest(meta, entries))
        kept = {entry.name for entry in entries}
        for name in transfer.list_names(self.url):
            if _SHARD.fullmatch(name) and name not in kept:
                transfer.delete(f"{self.url}/{name}")  # of a larger store that was overwritten
        self.forget()

    def forget(self) -> None:
        """Removes all that is left of an unfinished run, on the object store and here."""
        if not self.exists():
            self.refresh()
            for entry in self._sent.values():
                transfer.delete(f"{self.url}/{entry.name}")
        transfer.delete(f"{self._state}/{_RUN}")  # first: no partial run remains
        transfer.delete_folder(self._state)
        self.clear()

    def _begun(self) -> bytes | None:
        return transfer.read(f"{self._state}/{_RUN}")

    def _run_folder(self, run: bytes) -> str:
        """Where the plan and the receipts of a run are: those of two runs never mix."""
        return f"{self._state}/{hashlib.sha256(run).hexdigest()[:16]}"

    def _join(self) -> None:
        """Takes over the run at the URL, or puts the one of this folder there."""
        theirs = self._begun()
        mine = self.path(_RUN).read_bytes() if self.is_begun else None
        if theirs is None and self.exists():
            transfer.delete_folder(self._state)  # a run was killed after its last step
        elif theirs is None and mine is not None:
            self._publish(mine)
            theirs = self._begun()
        if theirs is not None and theirs != mine:
            self.clear()
            for name in (_LINES, _PLAN):  # the settings last: only with them is a run begun
                self._download(f"{self._run_folder(theirs)}/{name}", self.path(name))
            self.keep(_RUN, theirs)

    def _publish(self, run: bytes) -> None:
        for name in (_LINES, _PLAN):
            transfer.upload(self.path(name), f"{self._run_folder(run)}/{name}")
        transfer.create(f"{self._state}/{_RUN}", run)

    def _download(self, url: str, path: Path) -> None:
        state = transfer.state_of(url)
        if state is None or state.nbytes is None:
            raise StoreError(f"{url}: not there; start again with overwrite=True")
        with atomic_file(path) as file:
            transfer.download(url, state.nbytes, file)

    def _send(self, number: int) -> None:
        """Uploads a shard; its receipt is written when the shard is there, then it goes here."""
        path = self.shard_path(number)
        entry = entry_of(path)
        transfer.upload(path, f"{self.url}/{path.name}")
        receipt = f"{path.stem}.{entry.embedded}-{entry.failed}-{entry.skipped}.{entry.sha256}"
        run = self._run_folder(self.path(_RUN).read_bytes())
        transfer.put(f"{run}/{receipt}", entry.sha256.encode())
        self._sent[number] = entry
        path.unlink()


def _entry(receipt: re.Match[str]) -> tuple[int, ShardEntry]:
    """A shard's number, and its line of the manifest."""
    number, embedded, failed, skipped = (int(digits) for digits in receipt.groups()[:4])
    return number, ShardEntry(f"shard-{number:06d}.h5", embedded, failed, skipped, receipt[5])
