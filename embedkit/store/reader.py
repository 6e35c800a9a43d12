"""Reads one shard, a single HDF5 file, after checking its hash."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import closing, contextmanager, nullcontext
from functools import cached_property
from itertools import islice, pairwise, zip_longest
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.store.detect import wrong_kind
from embedkit.store.format import BLOCK_ROWS, COLUMN_SHAPES, RowBlock
from embedkit.store.hdf5_layout import Hdf5Layout, is_hdf5
from embedkit.store.manifest import ShardEntry
from embedkit.store.seal import check_seal, identity_of, is_readable
from embedkit.store.structure import read_structure
from embedkit.store.writer import (
    annotations_digest,
    facts_digest,
    failure_columns,
    failures_digest,
    head_digest,
    rows_digest,
)
from embedkit.types import Head, ImageFailure
from embedkit.utils.file_cache import file_sha256
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import silent, track
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.store.format import StoreCounts
    from embedkit.store.structure import ShardStructure

__all__ = ["ShardFile", "entry_of", "hdf5_errors", "refuse_damaged", "shard_problems"]

_CHANGED = "damaged: its bytes aren't those that were written"
_NOT_ROWS = "ids, labels, image columns, annotations, failures, head, attributes or structure"


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Maps what h5py raises to embedkit's errors."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as exc:
        raise StoreError(f"{path}: no such file or folder") from exc
    except PermissionError as exc:
        raise StoreError(f"{path}: permission denied") from exc
    except KeyError as exc:
        raise StoreFormatError(f"{path}: not a whole embedkit store: {_line(exc)}") from exc
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as exc:
        raise StoreCorruptError(f"{path}: can't be read as HDF5: {_line(exc)}") from exc


def shard_problems(
    path: Path, known: ShardStructure | None = None, *, by_seal: bool = False
) -> Iterator[str]:
    """Verifies a shard; yields one line per problem, without the path.

    HDF5 opens the file only if everything except the embeddings matches its hash.

    Args:
        path: The file.
        known: Its structure, as for `ShardFile`.
        by_seal: Whether it is enough that the file is, byte for byte, the one that was written.
    """
    try:
        with hdf5_errors(path), path.open("rb") as file:
            checked = check_seal(file)
        if not checked.is_there:
            yield "not an embedkit store, or damaged at its beginning (no seal)"
        elif not checked.is_whole:
            part = "rows" if checked.is_readable else _NOT_ROWS
            yield f"{_CHANGED} ({part}: seal)"
        if checked.is_readable and not (by_seal and checked.is_whole):
            with closing(ShardFile(path, known)) as shard:
                yield from shard.problems()
    except StoreError as exc:
        yield str(exc).removeprefix(f"{path}: ")


def refuse_damaged(
    paths: Sequence[Path], known: Sequence[ShardStructure] = (), *, by_seal: bool = False
) -> None:
    """Verifies shards before they are copied.

    Args:
        paths: The files.
        known: Their structures, as for `ShardFile`; none if they aren't known.
        by_seal: Whether it is enough that each file is, byte for byte, the one that was written.

    Raises:
        StoreCorruptError: Something is wrong.
    """
    pairs = zip_longest(paths, known)
    for path, structure in track(pairs, "verifying", len(paths), unit="shards"):
        with silent() if len(paths) > 1 else nullcontext():
            for problem in shard_problems(path, structure, by_seal=by_seal):
                raise StoreCorruptError(f"{path}: {problem}; make this file again")


def entry_of(path: Path, counts: StoreCounts | None = None) -> ShardEntry:
    """The manifest's line of a shard; the file is read whole.

    Args:
        path: The file.
        counts: What it holds; None reads it.
    """
    if counts is None:
        with closing(ShardFile(path)) as shard:
            counts = shard.counts
    return ShardEntry(path.name, counts.embedded, counts.failed, counts.skipped, file_sha256(path))


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


class ShardFile:
    """One shard, open for reading.

    Attributes:
        path: The file.
        meta: How the embeddings were computed.
        counts: What it holds.
        has_labels: Whether it holds labels.
        columns: The names of the columns of ``/images``.
        annotations: The columns of ``/annotations``: name to dtype, ``object`` for texts.
        unchecked: ``(B,)`` bool, the blocks of rows whose checksum wasn't compared yet. Whatever
            gives out embeddings compares it first, once per block; ``embeddings`` alone doesn't.
        structure: All of this, for opening the file again.
    """

    def __init__(self, path: Path, known: ShardStructure | None = None) -> None:
        """Opens and checks the structure; ``problems`` checks the content.

        Args:
            path: The file.
            known: The structure of when it was open before; of a file that has not changed since
                it is not checked again.

        Raises:
            StoreError: There is no such file.
            StoreFormatError: It is no embedkit store, or of a newer format.
            StoreCorruptError: Its parts don't fit together.
        """
        self.path = path
        self._lock = threading.Lock()  # HDF5 isn't thread safe beyond h5py's own lock
        with hdf5_errors(path):
            # Open until this object is gone: whoever replaces the file leaves this one readable.
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, self._file)
            identity = identity_of(self._file)
            if known is None or known.identity != identity:
                known, _ = None, self._layout  # HDF5 may hang on what isn't right
            self._h5 = h5py.File(path, "r", locking=False)
            try:
                self.structure = known or read_structure(path, self._h5, identity)
            except BaseException:
                self._h5.close()
                raise
        self.meta, self.counts = self.structure.meta, self.structure.counts
        self.has_labels, self.columns = self.structure.has_labels, self.structure.columns
        self.annotations, self.unchecked = self.structure.annotations, self.structure.unchecked

    @cached_property
    def _layout(self) -> Hdf5Layout:
        """The structure that HDF5 may parse."""
        if not is_readable(self._file):
            raise StoreCorruptError(
                f"{self.path}: {_CHANGED} ({_NOT_ROWS}: seal); make this file again"
            )
        if not is_hdf5(self._file):
            raise StoreFormatError(wrong_kind(self.path, "store"))
        return Hdf5Layout(self.path, self._file)

    def __len__(self) -> int:
        return self.counts.embedded

    def check(self, rows: NDArray[np.int64] | range) -> None:
        """Compares the checksums of the blocks that some rows lie in, each block once.

        Raises:
            StoreCorruptError: Some of their embeddings were changed.
        """
        if not len(rows) or not self.unchecked.any():
            return
        if isinstance(rows, range) and abs(rows.step) <= BLOCK_ROWS:
            first, last = sorted((rows[0] // BLOCK_ROWS, rows[-1] // BLOCK_ROWS))
            numbers = np.arange(first, last + 1)
        else:
            numbers = np.asarray(rows) // BLOCK_ROWS
        numbers = np.unique(numbers[self.unchecked[numbers]])
        with closing(in_order(self._check_block, numbers.tolist(), usable_cores())) as done:
            for number, is_whole in done if len(numbers) > 1 else self._check_each(numbers):
                if not is_whole:
                    start = number * BLOCK_ROWS
                    stop = min(start + BLOCK_ROWS, len(self))
                    raise StoreCorruptError(
                        f"{self.path}: embeddings of rows {start} to {stop - 1}: checksum wrong; "
                        "make this file again"
                    )
                self.unchecked[number] = False

    def _check_each(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, bool]]:
        return ((number, self._check_block(number)) for number in numbers.tolist())

    def _check_block(self, number: int) -> bool:
        """Whether the checksum of a block is right; read from the file, not from the map."""
        start = number * BLOCK_ROWS
        rows = np.arange(start, min(start + BLOCK_ROWS, len(self)))
        return bool(rows_digest(self._read(rows)) == self.structure.sums[number].tobytes())

    def close(self) -> None:
        """Closes the file for HDF5; its embeddings stay readable."""
        self._h5.close()

    @cached_property
    def embeddings(self) -> NDArray[np.floating]:
        """``(N, D)`` memory-mapped, read-only, unchecked; mapped on first access."""
        shape, dtype = (len(self), self.meta.feature_dim), np.dtype(self.meta.dtype)
        if not len(self):
            return np.empty(shape, dtype)
        with os.fdopen(os.dup(self._file), "rb") as file:
            return np.memmap(file, dtype.newbyteorder("<"), "r", self.structure.offset, shape)

    def read(
        self, rows: NDArray[np.int64], out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Reads and checks some rows without a memory map, whose pages would count as memory.

        Args:
            rows: ``(n,)``; rows that follow each other are read at once.
            out: ``(n, D)`` as stored, C-contiguous, to read into; None makes a new array.

        Returns:
            ``(n, D)``.

        Raises:
            StoreCorruptError: The file can't be read, or a checksum is wrong.
        """
        self.check(rows)
        return self._read(rows, out)

    def _read(
        self, rows: NDArray[np.int64], out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        if out is None:
            out = np.empty((len(rows), self.meta.feature_dim), self.meta.dtype)
        self._read_at(self.structure.offset, rows, out)
        return out

    def _read_at(self, offset: int, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Reads some rows of the dataset that begins there into ``out``, C-contiguous."""
        cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with hdf5_errors(self.path):
            for start, stop in pairwise(cuts if len(rows) else ()):
                part = memoryview(cast("Any", out[start:stop].view(np.uint8).reshape(-1)))
                place = offset + int(rows[start]) * (out.nbytes // len(out))
                while part:
                    count = os.preadv(self._file, [part], place)
                    if not count:
                        raise StoreCorruptError(f"{self.path}: ends before its last row")
                    part, place = part[count:], place + count

    def ids(self, start: int, stop: int) -> list[bytes]:
        """The ids of some rows, as stored."""
        return list(self._column("ids", start, stop))

    def image_column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Some rows of ``/images/<name>`` or ``/annotations/<name>``."""
        group = "annotations" if name in self.annotations else "images"
        return self._column(f"{group}/{name}", start, stop)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The thumbnails of some rows, ``(n, 32, 32)``; rows that follow each other at once.

        Raises:
            ValueError: The shard has none.
        """
        if "thumbnail" not in self.columns:
            raise ValueError(f"{self.path}: has no thumbnails")
        out = np.empty((len(rows), *COLUMN_SHAPES["thumbnail"]), np.uint8)
        with self._lock, hdf5_errors(self.path):
            offset = self._h5["images/thumbnail"].id.get_offset() or 0
        self._read_at(offset, rows, out)
        return out

    def labels(self, start: int, stop: int) -> list[bytes]:
        """The labels of some rows; empty ones where there are none."""
        if not self.has_labels:
            return [b""] * (stop - start)
        return list(self._column("labels", start, stop))

    def block(self, start: int, stop: int) -> RowBlock:
        """Some rows with ids, labels and image facts; the embeddings are checked."""
        self.check(range(start, stop))
        return self._block(start, stop)

    def _block(self, start: int, stop: int) -> RowBlock:
        return RowBlock(  # a copy: a map would hold a file open, and of small shards there are many
            self._read(np.arange(start, stop)),
            self.ids(start, stop),
            {
                name: self.image_column(name, start, stop)
                for name in (*self.columns, *self.annotations)
            },
            self.labels(start, stop) if self.has_labels else (),
        )

    def blocks(self) -> Iterator[RowBlock]:
        """All rows, ``BLOCK_ROWS`` at a time."""
        for start in range(0, len(self), BLOCK_ROWS):
            yield self.block(start, min(start + BLOCK_ROWS, len(self)))

    def failures(self) -> Iterator[ImageFailure]:
        """The images that could not be embedded, in the source's order."""
        for start in range(0, self.counts.failed, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self.counts.failed)
            ids = self._column("failures/id", start, stop)
            reasons = self._column("failures/reason", start, stop)
            sizes = self._column("failures/nbytes", start, stop)
            for name, reason, nbytes in zip(ids, reasons, sizes, strict=True):
                text = reason.decode("utf-8", "replace")
                yield ImageFailure(name.decode("utf-8", "surrogateescape"), text, int(nbytes))

    def head(self) -> Head | None:
        """The backbone's classifier, if it has one."""
        with self._lock, hdf5_errors(self.path):
            group = self._h5.get("head")
            if group is None:
                return None
            self._check_texts("head/class_names")
            self._check_texts("head/class_ids")
            return Head(
                group["weight"][:],
                group["bias"][:],
                tuple(group["class_names"].asstr()[:]),
                tuple(group["class_ids"].asstr()[:]),
            )

    def problems(self) -> Iterator[str]:
        """Checks every checksum and row; yields one line for each that is wrong.

        Raises:
            StoreError: Something can't be read.
        """
        with hdf5_errors(self.path):
            sums = {name: data[:].tobytes() for name, data in self._h5["checksums"].items()}
        starts = range(0, len(self), BLOCK_ROWS)
        blocks = (self._block(start, min(start + BLOCK_ROWS, len(self))) for start in starts)
        tracked = track(blocks, "verifying", len(self), unit="rows", size=len)
        for number, block in enumerate(tracked):
            where = slice(32 * number, 32 * number + 32)
            first = number * BLOCK_ROWS
            rows = f"rows {first} to {first + len(block) - 1}"
            if sums["embeddings"][where] != rows_digest(block.embeddings):
                yield f"embeddings of {rows}: checksum wrong"
            if sums["images"][where] != facts_digest(block, self.columns):
                yield f"ids, labels or image columns of {rows}: checksum wrong"
            if self.annotations and sums["annotations"][where] != annotations_digest(
                block, self.annotations
            ):
                yield f"annotations of {rows}: checksum wrong"
            if not np.isfinite(block.embeddings).all():
                yield f"embeddings of {rows}: not all finite"
        yield from self._failure_problems(sums["failures"])
        head = self.head()
        if head is not None and sums.get("head") != head_digest(head):
            yield "head: checksum wrong"

    def _failure_problems(self, sums: bytes) -> Iterator[str]:
        failures = self.failures()
        for number, start in enumerate(range(0, self.counts.failed, BLOCK_ROWS)):
            columns = failure_columns(list(islice(failures, BLOCK_ROWS)))
            if sums[32 * number : 32 * number + 32] != failures_digest(*columns):
                yield f"failures from {start}: checksum wrong"

    def _column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        with self._lock, hdf5_errors(self.path):
            self._check_texts(name)
            return cast("NDArray[Any]", self._h5[name][start:stop])

    def _check_texts(self, name: str) -> None:
        """Checks the places of a column's texts before HDF5 follows them, once."""
        if name not in self.structure.plain:
            column = self._h5[name]
            if column.dtype.hasobject and len(column):
                self._layout.check_texts(column.id.get_offset(), len(column))
            self.structure.plain.add(name)
