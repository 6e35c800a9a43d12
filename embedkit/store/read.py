"""Reading one shard: a single HDF5 file, checked before it is believed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.records import Head, ImageFailure
from embedkit.store.atomic import read_seal
from embedkit.store.format import (
    BLOCK_ROWS,
    FORMAT_NAME,
    FORMAT_VERSION,
    IMAGE_DTYPES,
    RowBlock,
    StoreCounts,
    StoreMeta,
)
from embedkit.store.write import (
    embeddings_digest,
    facts_digest,
    failure_columns,
    failures_digest,
    head_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ShardFile", "hdf5_errors"]


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Maps what h5py raises to embedkit's errors."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as exc:
        raise StoreError(f"{path}: no such file") from exc
    except PermissionError as exc:
        raise StoreError(f"{path}: permission denied") from exc
    except KeyError as exc:
        raise StoreFormatError(f"{path}: not a whole embedkit store: {_line(exc)}") from exc
    except (OSError, RuntimeError, ValueError, TypeError) as exc:
        raise StoreCorruptError(f"{path}: can't be read as HDF5: {_line(exc)}") from exc


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


class ShardFile:
    """One shard, open for reading.

    Attributes:
        path: The file.
        meta: How the rows were made.
        counts: What it holds.
        embeddings: ``(N, D)`` memory-mapped, read-only.
        has_labels: Whether it holds labels.
    """

    def __init__(self, path: Path) -> None:
        """Opens and checks the structure; ``problems`` checks the content.

        Raises:
            StoreError: There is no such file.
            StoreFormatError: It is no embedkit store, or of a newer format.
            StoreCorruptError: Its parts don't fit together.
        """
        self.path = path
        self._lock = threading.Lock()  # HDF5 isn't thread safe beyond h5py's own lock
        with hdf5_errors(path):
            self._h5 = _open(path)
            try:
                _check_format(path, self._h5)
                self.meta = StoreMeta.from_attributes(self._h5.attrs)
                self.counts = _read_counts(path, self._h5)
                _check_structure(path, self._h5, self.meta, self.counts)
                self.has_labels = "labels" in self._h5
                self.embeddings = self._map_embeddings()
            except BaseException:
                self._h5.close()
                raise

    def __len__(self) -> int:
        return self.counts.embedded

    def close(self) -> None:
        """Closes the file; arrays that were taken from it stay readable."""
        self._h5.close()

    def ids(self, start: int, stop: int) -> list[bytes]:
        """The ids of some rows, as stored."""
        return self._column("ids", start, stop).tolist()

    def image_column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Some rows of ``/images/<name>``."""
        return self._column(f"images/{name}", start, stop)

    def labels(self, start: int, stop: int) -> list[bytes]:
        """The labels of some rows; empty ones where there are none."""
        if not self.has_labels:
            return [b""] * (stop - start)
        return self._column("labels", start, stop).tolist()

    def block(self, start: int, stop: int) -> RowBlock:
        """Some rows with all that belongs to them."""
        return RowBlock(
            self.embeddings[start:stop],
            self.ids(start, stop),
            {name: self.image_column(name, start, stop) for name in IMAGE_DTYPES},
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
        """The classifier that was split off, if the backbone had one."""
        with self._lock, hdf5_errors(self.path):
            group = self._h5.get("head")
            if group is None:
                return None
            return Head(
                group["weight"][:],
                group["bias"][:],
                tuple(group["class_names"].asstr()[:]),
                tuple(group["class_ids"].asstr()[:]),
            )

    def problems(self) -> Iterator[str]:
        """Checks every bit of the file; yields one line for each thing that is wrong."""
        with self.path.open("rb") as file:
            found, expected = read_seal(file)
        if found != expected:
            yield "the file's bytes aren't those that were written (seal)"
        try:
            yield from self._content_problems()
        except StoreError as exc:
            yield str(exc)

    def _content_problems(self) -> Iterator[str]:
        with hdf5_errors(self.path):
            sums = {name: data[:].tobytes() for name, data in self._h5["checksums"].items()}
        for number, block in enumerate(self.blocks()):
            where = slice(32 * number, 32 * number + 32)
            first = number * BLOCK_ROWS
            rows = f"rows {first} to {first + len(block) - 1}"
            if sums["embeddings"][where] != embeddings_digest(block):
                yield f"embeddings of {rows}: checksum wrong"
            if sums["images"][where] != facts_digest(block):
                yield f"ids, labels or image columns of {rows}: checksum wrong"
            if not np.isfinite(block.embeddings).all():
                yield f"embeddings of {rows}: not all finite"
        yield from self._failure_problems(sums["failures"])
        head = self.head()
        if head is not None and sums["head"] != head_digest(head):
            yield "head: checksum wrong"

    def _failure_problems(self, sums: bytes) -> Iterator[str]:
        failures = list(self.failures())
        for number, start in enumerate(range(0, len(failures), BLOCK_ROWS)):
            columns = failure_columns(failures[start : start + BLOCK_ROWS])
            if sums[32 * number : 32 * number + 32] != failures_digest(*columns):
                yield f"failures from {start}: checksum wrong"

    def _column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        with self._lock, hdf5_errors(self.path):
            return cast("NDArray[Any]", self._h5[name][start:stop])

    def _map_embeddings(self) -> NDArray[np.floating]:
        dataset = self._h5["embeddings"]
        if not len(dataset):
            return np.empty(dataset.shape, dataset.dtype)
        offset = dataset.id.get_offset()
        if offset is None or offset + dataset.nbytes > self.path.stat().st_size:
            raise StoreCorruptError(f"{self.path}: cut short: rows are missing")
        return np.memmap(self.path, dataset.dtype, "r", offset, dataset.shape)


def _open(path: Path) -> h5py.File:
    with path.open("rb"):  # h5py's own message for a missing file is long
        pass
    if not h5py.is_hdf5(path):
        raise StoreFormatError(f"{path}: not an embedkit store (no HDF5 file)")
    return h5py.File(path, "r", locking=False)


def _check_format(path: Path, h5: h5py.File) -> None:
    name, version = h5.attrs.get("format"), h5.attrs.get("format_version")
    if name != FORMAT_NAME or version is None:
        raise StoreFormatError(f"{path}: an HDF5 file, but not an embedkit store")
    if version != FORMAT_VERSION:
        raise StoreFormatError(
            f"{path}: store format {version}; this embedkit reads format {FORMAT_VERSION}, "
            "a newer one may read more"
        )


def _read_counts(path: Path, h5: h5py.File) -> StoreCounts:
    counts = StoreCounts(*(int(h5.attrs[name]) for name in ("embedded", "failed", "skipped")))
    if counts.found != int(h5.attrs["found"]):
        raise StoreCorruptError(f"{path}: found != embedded + failed + skipped")
    return counts


def _check_structure(path: Path, h5: h5py.File, meta: StoreMeta, counts: StoreCounts) -> None:
    """Every dataset must be plain, inside this file, and as long as the counts say."""
    rows = (counts.embedded,)
    shapes = {"embeddings": (*rows, meta.feature_dim), "ids": rows}
    shapes |= {f"images/{name}": rows for name in IMAGE_DTYPES}
    shapes["images/content_hash"] = (*rows, 32)
    shapes |= {f"failures/{name}": (counts.failed,) for name in ("id", "reason", "nbytes")}
    if "labels" in h5:
        shapes["labels"] = rows
    for name, shape in shapes.items():
        _check_dataset(path, h5, name, shape)
    if h5["embeddings"].dtype != np.dtype(meta.dtype).newbyteorder("<"):
        raise StoreCorruptError(f"{path}: embeddings aren't {meta.dtype}")


def _check_dataset(path: Path, h5: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        inner = "/".join(parts[:depth])
        if not isinstance(h5.get(inner, getlink=True), h5py.HardLink):
            raise StoreFormatError(f"{path}: {inner} is missing, or a link to elsewhere")
    dataset = h5[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise StoreFormatError(f"{path}: {name} is not a plain dataset")
    if dataset.shape != shape or dataset.chunks is not None:
        raise StoreCorruptError(f"{path}: {name} has shape {dataset.shape}, not {shape}")
