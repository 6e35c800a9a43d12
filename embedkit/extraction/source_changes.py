"""Compares a store with its source as it is now: added, removed and changed images."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from embedkit.decode.sniff import sniff_format
from embedkit.errors import DecodeError
from embedkit.sources import ImageReader
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io.storage import local_path, size_and_time
from embedkit.store.gather import ids_at
from embedkit.utils.parallel import in_order
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.store.store import EmbeddingStore
    from embedkit.types import ImageRecord

__all__ = ["Comparison", "SourceChanges", "State", "compare_with_source", "shards_of"]

_AT_ONCE = 65536  # images
_SHOWN = 3
_SECOND = 10**9
_AT_A_TIME = 32  # images that a thread compares before it takes others
_IN_MEMORY = {"dataset", "memory"}
_STATS_PER_CORE = 8  # waiting for a network's file system takes no core


class State(IntEnum):
    """What a listed image is to the store."""

    SAME = 0
    TOUCHED = 1  # the same content, at another time
    CHANGED = 2
    FAILED = 3  # failed when it was tried last
    ADDED = 4
    SKIPPED = 5  # no image


@dataclass(slots=True)
class _Names:
    """How many images there are of a kind, and the names of all or of the first few."""

    limit: int | None
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if self.limit is None or len(self.first) < self.limit:
            self.first.append(name)


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """What a source has now that a store made of it hasn't, and the reverse.

    Attributes:
        kinds: ``added``, ``removed``, ``changed`` and ``relabeled`` images.
    """

    kinds: dict[str, _Names]

    def __bool__(self) -> bool:
        return any(names.count for names in self.kinds.values())

    def __str__(self) -> str:
        parts = []
        for kind, names in self.kinds.items():
            if names.count:
                more = ", ..." if names.count > _SHOWN else ""
                parts.append(f"{names.count} {kind} ({', '.join(names.first[:_SHOWN])}{more})")
        return ", ".join(parts)

    def names(self, kind: str) -> tuple[str, ...]:
        """The ids of a kind, as far as they were kept."""
        return tuple(self.kinds[kind].first)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A store compared with its source, image by image in the order of the source's list.

    Attributes:
        changes: What is different.
        states: ``(n,)`` int8, a `State` per image.
        rows: ``(n,)`` int64, the image's row; -1 where it has none.
        shards: ``(n,)`` int32, the shard that the image is in as a row or a failure; -1: in none.
        mtimes: ``(n,)`` int64, modification times now, ns since 1970; -1 where unknown.
        labels: ``(n,)`` int32, numbers of labels in ``label_texts``.
        label_texts: The different labels; the first is no label.
        unlisted: ``(r,)`` int64, the rows of images that aren't listed any more, ascending.
        etags: The versions of images behind URLs, by row, where the store has another or none.
    """

    changes: SourceChanges
    states: NDArray[np.int8]
    rows: NDArray[np.int64]
    shards: NDArray[np.int32]
    mtimes: NDArray[np.int64]
    labels: NDArray[np.int32]
    label_texts: list[str]
    unlisted: NDArray[np.int64]
    etags: dict[int, bytes]


def compare_with_source(
    store: EmbeddingStore,
    records: Iterable[ImageRecord],
    *,
    check_content: bool = False,
    all_names: bool = False,
) -> Comparison:
    """Compares a store with what its source lists now, in some 60 bytes of memory per image.

    A file counts as changed if its size is another one, or if its modification time is and then
    its content, too: copying a folder changes all times and no image. Of a member of an archive the
    archive's time counts. What the store doesn't remember isn't compared.

    Args:
        store: The store.
        records: What the source lists.
        check_content: Whether to read every image and compare its SHA-256, whatever its time.
        all_names: Whether to keep the names of all images that differ, not of the first few.

    Raises:
        SourceError: The source can't be listed.
    """
    with ImageReader() as reader:
        comparison = _Comparing(store, reader, check_content, None if all_names else _SHOWN)
        images = iter(records)
        while part := list(islice(images, _AT_ONCE)):
            comparison.add(part)
        return comparison.end()


def shards_of(store: EmbeddingStore, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """The numbers of the shards that rows lie in; -1 for row -1."""
    ends = np.cumsum([shard.embedded for shard in store.shards])
    numbers = np.searchsorted(ends, rows, side="right")
    return np.where(rows >= 0, numbers, -1).astype(np.int32)


class _Comparing:
    """The comparison of a store with the records seen so far."""

    def __init__(
        self, store: EmbeddingStore, reader: ImageReader, check_content: bool, limit: int | None
    ) -> None:
        self._store, self._reader = store, reader
        hashes = np.fromiter(map(hash, store.ids), np.int64, len(store))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._nbytes = store.images("nbytes")
        self._mtime = store.images("mtime") if "mtime" in store.columns else None
        self._etags = _etags_of(store)
        self._other_etags: dict[int, bytes] = {}
        self._check_content = check_content
        self._stored_labels = None if store.meta.labels_from else store.labels or [""] * len(store)
        self._failed = {
            failure.id: (number, failure.nbytes)
            for number, entry in enumerate(store.shards)
            if entry.failed
            for failure in store.shard(number).failures()
        }
        self._seen = np.zeros(len(store), np.bool_)
        self._texts = {"": 0}
        self._parts: list[tuple[NDArray[np.generic], ...]] = []
        kinds = ("added", "removed", "changed", "relabeled")
        self._kinds = {kind: _Names(limit) for kind in kinds}

    def add(self, records: Sequence[ImageRecord]) -> None:
        """Compares some records."""
        rows = self._rows_of(records)
        pairs = list(zip(records, rows.tolist(), strict=True))
        workers = _STATS_PER_CORE * usable_cores()
        parts = (pairs[at : at + _AT_A_TIME] for at in range(0, len(pairs), _AT_A_TIME))
        found = [one for _, part in in_order(self._compare_all, parts, workers) for one in part]
        shards = shards_of(self._store, rows)
        for place, (record, row) in enumerate(pairs):
            self._take_note(record, row, found[place][0])
            if row < 0 and record.id in self._failed:
                shards[place] = self._failed.pop(record.id)[0]
        texts = [self._texts.setdefault(one.label or "", len(self._texts)) for one in records]
        states, mtimes = zip(*found, strict=True)
        self._parts.append(
            (np.array(states, np.int8), rows, shards, np.array(mtimes, np.int64),
             np.array(texts, np.int32))
        )  # fmt: skip

    def end(self) -> Comparison:
        """The result, once all records are compared."""
        removed, unlisted = self._kinds["removed"], np.flatnonzero(~self._seen)
        shown = unlisted if removed.limit is None else unlisted[: removed.limit]
        for row_id in ids_at(self._store, shown):
            removed.add(row_id.decode("utf-8", "surrogateescape"))
        removed.count = len(unlisted)
        for name in self._failed:
            removed.add(name)
        states, rows, shards, mtimes, labels = map(np.concatenate, zip(*self._parts, strict=True))
        return Comparison(
            SourceChanges(self._kinds), states, rows, shards, mtimes, labels, list(self._texts),
            unlisted,
            self._other_etags,
        )  # fmt: skip

    def _rows_of(self, records: Sequence[ImageRecord]) -> NDArray[np.int64]:
        """The row of each record; -1 where there is none."""
        if not len(self._hashes):
            return np.full(len(records), -1)
        hashes = np.fromiter((hash(one.id) for one in records), np.int64, len(records))
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        rows: NDArray[np.int64] = np.where(self._hashes[at] == hashes, self._order[at], -1)
        there = np.flatnonzero(rows >= 0)
        names = ids_at(self._store, rows[there])
        for place, name in zip(there.tolist(), names, strict=True):
            if name != records[place].id.encode("utf-8", "surrogateescape"):
                rows[place] = -1  # another id of the same hash
        return rows

    @cached_property
    def _content(self) -> NDArray[np.void]:
        return self._store.images("content_hash")

    def _compare_all(self, pairs: Sequence[tuple[ImageRecord, int]]) -> list[tuple[State, int]]:
        return [self._compare(*pair) for pair in pairs]

    def _compare(self, record: ImageRecord, row: int) -> tuple[State, int]:
        """What the record is to the store, and when it was changed last."""
        size, mtime = size_and_time(record.path)
        if row >= 0:
            return self._compare_row(record, row, size, mtime), mtime
        if record.id in self._failed:
            return State.FAILED, mtime
        return (State.ADDED if self._is_image(record) else State.SKIPPED), mtime

    def _compare_row(self, record: ImageRecord, row: int, size: int, mtime: int) -> State:
        is_gone = size == -1 and record.kind not in _IN_MEMORY and local_path(record.path)
        if record.problem is not None or is_gone:
            return State.CHANGED  # embedding it records why it can't be read
        if record.kind != "file" or size == -1:
            size = -1 if record.nbytes is None else record.nbytes
        if size not in (-1, int(self._nbytes[row])):
            return State.CHANGED
        is_same_time = self._mtime is None or _is_same_time(int(self._mtime[row]), mtime)
        is_same_version = is_same_time and self._has_etag(record, row)
        if is_same_version and not self._check_content:
            return State.SAME
        if not self._has_content(record, self._content[row].tobytes()):
            return State.CHANGED
        return State.SAME if is_same_version else State.TOUCHED

    def _has_etag(self, record: ImageRecord, row: int) -> bool:
        """Whether the version of an image behind a URL is the stored one, or isn't known."""
        if not record.etag:
            return True
        now = record.etag.encode("utf-8", "surrogateescape")
        before = b"" if self._etags is None else self._etags[row]
        if now != before:
            self._other_etags[row] = now
        return before in {b"", now}

    def _has_content(self, record: ImageRecord, content_hash: bytes) -> bool:
        try:
            return sha256(self._reader.read(record)).digest() == content_hash
        except DecodeError:
            return False

    def _take_note(self, record: ImageRecord, row: int, state: State) -> None:
        """Names a record among the changes, if it is one."""
        if row >= 0:
            self._seen[row] = True
            if self._stored_labels and self._stored_labels[row] != (record.label or ""):
                self._kinds["relabeled"].add(record.id)
        if state is State.ADDED:
            self._kinds["added"].add(record.id)
        elif state is State.CHANGED or (state is State.FAILED and self._has_other_size(record)):
            self._kinds["changed"].add(record.id)

    def _has_other_size(self, record: ImageRecord) -> bool:
        """Whether a file that failed has another size now."""
        before, size = self._failed[record.id][1], size_and_time(record.path)[0]
        return record.kind == "file" and -1 not in (before, size) and before != size

    def _is_image(self, record: ImageRecord) -> bool:
        if record.named or has_image_name(record.id) or record.problem is not None:
            return True
        try:
            return sniff_format(self._reader.peek(record)) is not None
        except DecodeError:
            return True  # extracting it would record the failure


def _etags_of(store: EmbeddingStore) -> NDArray[np.object_] | None:
    """``(N,)`` bytes, empty where there is none; None for a store without any."""
    has_etags = ["etag" in shard.columns for shard in store.structures]
    if not any(has_etags):
        return None
    none = np.array([b""], object)
    return np.concatenate(
        [
            store.shard(number).image_column("etag", 0, entry.embedded)
            if has_etags[number]
            else np.repeat(none, entry.embedded)
            for number, entry in enumerate(store.shards)
        ]
    )


def _is_same_time(stored: int, now: int) -> bool:
    """Whether two modification times are the same, or one of them is rounded to seconds."""
    if -1 in (stored, now) or stored == now:
        return True
    rounded = stored % _SECOND == 0 or now % _SECOND == 0
    return rounded and stored // _SECOND == now // _SECOND
