"""Whether an HDF5 file is a shard: its attributes, and that every dataset is plain and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from embedkit.errors import StoreCorruptError, StoreFormatError
from embedkit.store.format import (
    FORMAT_NAME,
    FORMAT_VERSION,
    IMAGE_DTYPES,
    StoreCounts,
    StoreMeta,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

__all__ = ["check_structure", "read_counts", "read_meta"]

_Expected = tuple[str, tuple[int | None, ...], "np.dtype[Any] | None"]
"""A dataset's name, its shape (None is any length) and its dtype (None is vlen strings)."""

_F4, _I8, _U1 = np.dtype("<f4"), np.dtype("<i8"), np.dtype("u1")


def read_meta(path: Path, h5: h5py.File) -> StoreMeta:
    """How the rows were made.

    Raises:
        StoreFormatError: It is no embedkit store, or of a newer format.
    """
    name, version = h5.attrs.get("format"), h5.attrs.get("format_version")
    if not isinstance(name, str) or name != FORMAT_NAME or version is None:
        raise StoreFormatError(f"{path}: an HDF5 file, but not an embedkit store")
    if not np.array_equal(version, FORMAT_VERSION):
        raise StoreFormatError(
            f"{path}: store format {version}; this embedkit reads format {FORMAT_VERSION}, "
            "a newer one may read more"
        )
    try:
        return StoreMeta.from_attributes(h5.attrs)
    except StoreFormatError as exc:
        raise StoreFormatError(f"{path}: {exc}") from exc


def read_counts(path: Path, h5: h5py.File) -> StoreCounts:
    """What the shard holds.

    Raises:
        StoreCorruptError: The counts don't add up.
    """
    counts = StoreCounts(*(int(h5.attrs[name]) for name in ("embedded", "failed", "skipped")))
    if counts.found != int(h5.attrs["found"]):
        raise StoreCorruptError(f"{path}: found != embedded + failed + skipped")
    if min(counts.embedded, counts.failed, counts.skipped) < 0:
        raise StoreCorruptError(f"{path}: a count is negative")
    return counts


def check_structure(path: Path, h5: h5py.File, meta: StoreMeta, counts: StoreCounts) -> None:
    """Every dataset must be plain, wholly inside this file, and as long as the counts say.

    Raises:
        StoreFormatError: A dataset is missing, or is no plain one.
        StoreCorruptError: A dataset has another shape or type, or is cut short.
    """
    size = path.stat().st_size
    for name, shape, dtype in _expected(h5, meta, counts):
        dataset = _plain_dataset(path, h5, name)
        _check_type(path, name, dataset, shape, dtype)
        if dataset.size and not _lies_inside(dataset, size):
            raise StoreCorruptError(f"{path}: cut short: {name} isn't all there")


def _expected(h5: h5py.File, meta: StoreMeta, counts: StoreCounts) -> Iterator[_Expected]:
    rows, failed = (counts.embedded,), (counts.failed,)
    yield "embeddings", (*rows, meta.feature_dim), np.dtype(meta.dtype).newbyteorder("<")
    yield "ids", rows, None
    for name, dtype in IMAGE_DTYPES.items():
        shape = (*rows, 32) if name == "content_hash" else rows
        yield f"images/{name}", shape, None if dtype.hasobject else dtype
    yield from (("failures/id", failed, None), ("failures/reason", failed, None))
    yield "failures/nbytes", failed, _I8
    sums = ["embeddings", "images", "failures"]
    if "labels" in h5:
        yield "labels", rows, None
    if "head" in h5:
        yield from _expected_head(meta)
        sums.append("head")
    yield from ((f"checksums/{name}", (None, 32), _U1) for name in sums)


def _expected_head(meta: StoreMeta) -> Iterator[_Expected]:
    yield from (("head/weight", (None, meta.feature_dim), _F4), ("head/bias", (None,), _F4))
    yield from (("head/class_names", (None,), None), ("head/class_ids", (None,), None))


def _plain_dataset(path: Path, h5: h5py.File, name: str) -> h5py.Dataset:
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        inner = "/".join(parts[:depth])
        if not isinstance(h5.get(inner, getlink=True), h5py.HardLink):
            raise StoreFormatError(f"{path}: {inner} is missing, or a link to elsewhere")
    dataset = h5[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise StoreFormatError(f"{path}: {name} is not a plain dataset")
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise StoreFormatError(f"{path}: {name} is not stored in one piece")
    return dataset


def _check_type(
    path: Path,
    name: str,
    dataset: h5py.Dataset,
    shape: tuple[int | None, ...],
    dtype: np.dtype[Any] | None,
) -> None:
    found = dataset.shape or ()
    if len(found) != len(shape) or any(
        w not in {f, None} for f, w in zip(found, shape, strict=True)
    ):
        raise StoreCorruptError(f"{path}: {name} has shape {found}, not {shape}")
    text = h5py.check_string_dtype(dataset.dtype)
    fits = dataset.dtype == dtype if dtype is not None else text is not None and text.length is None
    if not fits:
        raise StoreCorruptError(f"{path}: {name} is of {dataset.dtype}")


def _lies_inside(dataset: h5py.Dataset, size: int) -> bool:
    offset, nbytes = dataset.id.get_offset(), dataset.id.get_storage_size()
    wanted = dataset.size * dataset.id.get_type().get_size()
    return offset is not None and nbytes >= wanted and offset + nbytes <= size
