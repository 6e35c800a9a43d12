"""Compares a finished store with its source as it is now: added, removed and changed images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from embedkit.decode.sniff import sniff_format
from embedkit.errors import DecodeError
from embedkit.sources import ImageReader
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io.storage import size_and_time
from embedkit.utils.parallel import in_order
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.store.store import EmbeddingStore
    from embedkit.types import ImageRecord

__all__ = ["SourceChanges", "compare_with_source"]

_AT_ONCE = 65536  # images
_SHOWN = 3
_SECOND = 10**9
_STATS_PER_CORE = 8  # waiting for a network's file system takes no core


@dataclass(slots=True)
class _Names:
    """How many images there are of a kind, and the first few."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
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
                more = ", ..." if names.count > len(names.first) else ""
                parts.append(f"{names.count} {kind} ({', '.join(names.first)}{more})")
        return ", ".join(parts)


def compare_with_source(
    store: EmbeddingStore, records: Iterable[ImageRecord], *, check_content: bool = False
) -> SourceChanges:
    """Compares a store with what its source lists now, in some 40 bytes of memory per image.

    A file counts as changed if its size is another one, or if its modification time is and then
    its content, too: copying a folder changes all times and no image. Of a member of an archive the
    archive's time counts. What the store doesn't remember isn't compared.

    Args:
        store: The store.
        records: What the source lists.
        check_content: Whether to read every image and compare its SHA-256, whatever its time.

    Raises:
        SourceError: The source can't be listed.
    """
    with ImageReader() as reader:
        comparison = _Comparison(store, reader, check_content=check_content)
        images = iter(records)
        while part := list(islice(images, _AT_ONCE)):
            comparison.add(part)
        return comparison.end()


class _Comparison:
    """The comparison of a store with the records seen so far."""

    def __init__(self, store: EmbeddingStore, reader: ImageReader, *, check_content: bool) -> None:
        self._store, self._reader = store, reader
        hashes = np.fromiter(map(hash, store.ids), np.int64, len(store))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._nbytes = store.images("nbytes")
        self._mtime = store.images("mtime") if "mtime" in store.columns else None
        self._check_content = check_content
        self._labels = None if store.meta.labels_from else store.labels or [""] * len(store)
        self._failed = {failure.id: failure.nbytes for failure in store.failures()}
        self._seen = np.zeros(len(store), np.bool_)
        self._kinds = {kind: _Names() for kind in ("added", "removed", "changed", "relabeled")}

    def add(self, records: Sequence[ImageRecord]) -> None:
        """Compares some records."""
        rows = self._rows_of(records)
        known = [(record, row) for record, row in zip(records, rows, strict=True) if row >= 0]
        workers = _STATS_PER_CORE * usable_cores()
        for (record, row), is_same in in_order(lambda one: self._is_same(*one), known, workers):
            self._seen[row] = True
            if not is_same:
                self._kinds["changed"].add(record.id)
            if self._labels is not None and self._labels[row] != (record.label or ""):
                self._kinds["relabeled"].add(record.id)
        for record, row in zip(records, rows, strict=True):
            if row < 0:
                self._add_other(record)

    def end(self) -> SourceChanges:
        """The changes, once all records are compared."""
        removed = self._kinds["removed"]
        for row in np.flatnonzero(~self._seen).tolist():
            removed.add(self._store.ids[row] if removed.count < _SHOWN else "")
        for name in self._failed:
            removed.add(name)
        return SourceChanges(self._kinds)

    def _rows_of(self, records: Sequence[ImageRecord]) -> list[int]:
        """The row of each record; -1 where there is none."""
        hashes = np.fromiter((hash(one.id) for one in records), np.int64, len(records))
        if not len(self._hashes):
            return [-1] * len(records)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        rows: list[int] = np.where(self._hashes[at] == hashes, self._order[at], -1).tolist()
        return rows

    @cached_property
    def _content(self) -> NDArray[np.void]:
        return self._store.images("content_hash")

    def _is_same(self, record: ImageRecord, row: int) -> bool:
        size, mtime = size_and_time(record.path)
        if record.kind != "file":
            size = -1 if record.nbytes is None else record.nbytes
        if size not in (-1, int(self._nbytes[row])):
            return False
        if not self._check_content and (
            self._mtime is None or _is_same_time(int(self._mtime[row]), mtime)
        ):
            return True
        return self._has_content(record, self._content[row].tobytes())

    def _has_content(self, record: ImageRecord, content_hash: bytes) -> bool:
        try:
            return sha256(self._reader.read(record)).digest() == content_hash
        except DecodeError:
            return False

    def _add_other(self, record: ImageRecord) -> None:
        """A record that is in no row: it failed, was skipped, or is new."""
        if record.id in self._failed:
            before, size = self._failed.pop(record.id), size_and_time(record.path)[0]
            if record.kind == "file" and -1 not in (before, size) and before != size:
                self._kinds["changed"].add(record.id)
        elif self._is_image(record):
            self._kinds["added"].add(record.id)

    def _is_image(self, record: ImageRecord) -> bool:
        if has_image_name(record.id) or record.problem is not None:
            return True
        try:
            return sniff_format(self._reader.peek(record)) is not None
        except DecodeError:
            return True  # extracting it would record the failure


def _is_same_time(stored: int, now: int) -> bool:
    """Whether two modification times are the same, or one of them is rounded to seconds."""
    if -1 in (stored, now) or stored == now:
        return True
    rounded = stored % _SECOND == 0 or now % _SECOND == 0
    return rounded and stored // _SECOND == now // _SECOND
