"""Writes shards as HDF5 files, in memory or on disk."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import h5py
import numpy as np

from embedkit.store.format import (
    BLOCK_ROWS,
    COLUMN_SHAPES,
    FORMAT_NAME,
    FORMAT_VERSION,
    IMAGE_DTYPES,
    OPTIONAL_DTYPES,
    USUAL_COLUMNS,
    RowBlock,
    StoreCounts,
    StoreMeta,
    in_blocks,
)
from embedkit.store.seal import SEAL_BYTES, seal
from embedkit.utils.atomic_write import RememberingFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.types import Head, ImageFailure

__all__ = [
    "ShardContent",
    "annotations_digest",
    "encode_shard",
    "facts_digest",
    "failure_columns",
    "failures_digest",
    "head_digest",
    "rows_digest",
    "write_shard",
]

_BYTES = h5py.string_dtype("ascii")  # vlen; ids may hold any byte but NUL, so never decoded
_DTYPES = {**IMAGE_DTYPES, **OPTIONAL_DTYPES}
_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True, slots=True)
class ShardContent:
    """What one HDF5 file of a store will hold.

    Attributes:
        meta: How the rows were made.
        counts: How many rows and failures ``parts`` and ``failures`` give, and what was skipped.
        parts: The rows in order, in pieces of any size.
        failures: The images that could not be embedded, in order.
        with_labels: Whether ``/labels`` is written.
        head: The classifier that was split off.
        columns: The columns of ``/images`` that are written.
        annotations: The columns of ``/annotations`` that are written: name to dtype.
    """

    meta: StoreMeta
    counts: StoreCounts
    parts: Iterable[RowBlock]
    failures: Iterable[ImageFailure]
    with_labels: bool
    head: Head | None = None
    columns: Sequence[str] = USUAL_COLUMNS
    annotations: Mapping[str, np.dtype[Any]] = field(default_factory=dict)


def encode_shard(content: ShardContent) -> memoryview:
    """A whole shard as the bytes of a sealed HDF5 file."""
    buffer = io.BytesIO()
    seal(buffer, *_write_hdf5(buffer, content))
    return buffer.getbuffer()


def write_shard(file: IO[bytes], content: ShardContent) -> None:
    """Writes a shard of any size to an open, empty, readable and writable file.

    Raises:
        OSError: The disk is full.
    """
    guarded = RememberingFile(file)
    try:
        extent = _write_hdf5(guarded, content)
    finally:
        guarded.check()  # what HDF5 says of a file that couldn't be written leads nowhere
    file.flush()
    seal(file, *extent)


def _write_hdf5(file: Any, content: ShardContent) -> tuple[int, int]:
    """Writes all but the seal; gives where the embeddings begin and how long they are, bytes."""
    with h5py.File(file, "w", libver=("earliest", "latest"), userblock_size=SEAL_BYTES) as h5:
        _write_attributes(h5, content)
        digests = _write_rows(h5, content)
        digests["failures"] = _write_failures(h5, content)
        if content.head is not None:
            digests["head"] = _write_head(h5, content.head)
        _write_checksums(h5, digests)
        embeddings = h5["embeddings"].id
        return embeddings.get_offset() or 0, embeddings.get_storage_size()


def _write_attributes(h5: h5py.File, content: ShardContent) -> None:
    counts = content.counts
    h5.attrs.update({"format": FORMAT_NAME, "format_version": FORMAT_VERSION})
    h5.attrs.update(content.meta.to_attributes())
    h5.attrs.update(
        found=counts.found,
        embedded=counts.embedded,
        failed=counts.failed,
        skipped=counts.skipped,
    )


def _write_rows(h5: h5py.File, content: ShardContent) -> dict[str, list[bytes]]:
    """Writes the rows block by block; gives each block's checksums."""
    datasets = _create_row_datasets(h5, content)
    digests: dict[str, list[bytes]] = {"embeddings": [], "images": []}
    if content.annotations:
        digests["annotations"] = []
    start = 0
    for block in in_blocks(content.parts):
        stop = start + len(block)
        datasets["embeddings"][start:stop] = block.embeddings
        datasets["ids"][start:stop] = np.array(block.ids, dtype=object)
        for name in content.columns:
            datasets[name][start:stop] = block.column(name)
        for name, dtype in content.annotations.items():
            datasets[name][start:stop] = block.column(name, dtype)
        if content.with_labels:
            labels = block.labels or [b""] * len(block)
            datasets["labels"][start:stop] = np.array(labels, dtype=object)
        digests["embeddings"].append(rows_digest(block.embeddings))
        digests["images"].append(facts_digest(block, content.columns))
        if content.annotations:
            digests["annotations"].append(annotations_digest(block, content.annotations))
        start = stop
    if start != content.counts.embedded:
        raise ValueError(f"{start} rows were given, {content.counts.embedded} promised")
    return digests


def _create_row_datasets(h5: h5py.File, content: ShardContent) -> dict[str, h5py.Dataset]:
    rows, meta = content.counts.embedded, content.meta
    little = np.dtype(meta.dtype).newbyteorder("<")
    made = {
        "embeddings": h5.create_dataset("embeddings", (rows, meta.feature_dim), little),
        "ids": h5.create_dataset("ids", (rows,), _BYTES),
    }
    for name in content.columns:
        dtype = _DTYPES[name]
        shape = (rows, *COLUMN_SHAPES.get(name, ()))
        stored = _TEXT if dtype.hasobject else dtype
        made[name] = h5.create_dataset(f"images/{name}", shape, stored)
    for name, dtype in sorted(content.annotations.items()):
        stored = _TEXT if dtype.hasobject else dtype
        made[name] = h5.create_dataset(f"annotations/{name}", (rows,), stored)
    if content.with_labels:
        made["labels"] = h5.create_dataset("labels", (rows,), _TEXT)
    return made


def _write_failures(h5: h5py.File, content: ShardContent) -> list[bytes]:
    count = content.counts.failed
    ids = h5.create_dataset("failures/id", (count,), _BYTES)
    reasons = h5.create_dataset("failures/reason", (count,), _TEXT)
    sizes = h5.create_dataset("failures/nbytes", (count,), "<i8")
    digests, block, start = [], [], 0
    for failure in content.failures:
        block.append(failure)
        if len(block) == BLOCK_ROWS or start + len(block) == count:
            rows = slice(start, start + len(block))
            columns = failure_columns(block)
            ids[rows], reasons[rows], sizes[rows] = (
                np.array(columns[0], dtype=object),
                np.array(columns[1], dtype=object),
                columns[2],
            )
            digests.append(failures_digest(*columns))
            start, block = rows.stop, []
    if start != count or block:
        raise ValueError(f"{start + len(block)} failures were given, {count} promised")
    return digests


def failure_columns(
    failures: Sequence[ImageFailure],
) -> tuple[list[bytes], list[bytes], np.ndarray[Any, np.dtype[np.int64]]]:
    """Failures as the three columns that are stored."""
    return (
        [f.id.encode("utf-8", "surrogateescape") for f in failures],
        [_reason(f).encode("utf-8", "backslashreplace") for f in failures],
        np.array([f.nbytes for f in failures], dtype="<i8"),
    )


def _reason(failure: ImageFailure) -> str:
    return failure.reason.replace("\0", "\\0")  # HDF5's strings end there


def _write_head(h5: h5py.File, head: Head) -> list[bytes]:
    group = h5.create_group("head")
    group.create_dataset("weight", data=np.ascontiguousarray(head.weight, dtype="<f4"))
    group.create_dataset("bias", data=np.ascontiguousarray(head.bias, dtype="<f4"))
    for name, values in (("class_names", head.class_names), ("class_ids", head.class_ids)):
        texts = [value.encode("utf-8") for value in values]
        group.create_dataset(name, data=np.array(texts, dtype=object), dtype=_TEXT)
    return [head_digest(head)]


def _write_checksums(h5: h5py.File, digests: dict[str, list[bytes]]) -> None:
    group = h5.create_group("checksums")
    group.attrs["block_rows"] = BLOCK_ROWS
    group.attrs["algorithm"] = "sha256"
    for name, values in digests.items():
        data = np.frombuffer(b"".join(values), dtype="u1").reshape(len(values), 32)
        group.create_dataset(name, data=data)


def rows_digest(embeddings: NDArray[np.floating]) -> bytes:
    """SHA-256 of the embeddings' bytes, little-endian, in C order."""
    data = np.ascontiguousarray(embeddings)
    return hashlib.sha256(data.astype(data.dtype.newbyteorder("<"), copy=False).data).digest()


def facts_digest(block: RowBlock, columns: Sequence[str]) -> bytes:
    """SHA-256 over ids, labels and the stored columns of ``/images`` of one block of rows."""
    digest = hashlib.sha256()
    _update_texts(digest, block.ids)
    for name in columns:
        dtype, column = _DTYPES[name], block.column(name)
        if dtype.hasobject:
            _update_texts(digest, column.tolist())
        else:
            digest.update(np.ascontiguousarray(column, dtype=dtype).data)
    if any(block.labels):
        _update_texts(digest, block.labels)
    return digest.digest()


def annotations_digest(block: RowBlock, annotations: Mapping[str, np.dtype[Any]]) -> bytes:
    """SHA-256 over the names and values of the annotations of one block of rows."""
    digest = hashlib.sha256()
    for name, dtype in sorted(annotations.items()):
        _update_texts(digest, [name.encode()])
        column = block.column(name, dtype)
        if dtype.hasobject:
            _update_texts(digest, column.tolist())
        else:
            digest.update(np.ascontiguousarray(column, dtype=dtype).data)
    return digest.digest()


def failures_digest(ids: Sequence[bytes], reasons: Sequence[bytes], sizes: Any) -> bytes:
    """SHA-256 of one block of ``/failures``."""
    digest = hashlib.sha256()
    _update_texts(digest, ids)
    _update_texts(digest, reasons)
    digest.update(np.ascontiguousarray(sizes, dtype="<i8").data)
    return digest.digest()


def head_digest(head: Head) -> bytes:
    """SHA-256 of the stored head."""
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(head.weight, dtype="<f4").data)
    digest.update(np.ascontiguousarray(head.bias, dtype="<f4").data)
    _update_texts(digest, [name.encode("utf-8") for name in (*head.class_names, *head.class_ids)])
    return digest.digest()


def _update_texts(digest: Any, texts: Iterable[bytes]) -> None:
    """Hashes texts with their lengths, so that no two lists hash alike."""
    for text in texts:
        digest.update(len(text).to_bytes(4, "little"))
        digest.update(text)
