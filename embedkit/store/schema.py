"""Checks that an HDF5 file is a shard: its attributes and the layout of its datasets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import h5py
import numpy as np

from embedkit.errors import StoreCorruptError, StoreFormatError
from embedkit.store.annotations import annotation_kind, name_problem
from embedkit.store.format import (
    BLOCK_ROWS,
    COLUMN_SHAPES,
    FORMAT_NAME,
    FORMAT_VERSION,
    IMAGE_DTYPES,
    OPTIONAL_DTYPES,
    StoreCounts,
    StoreMeta,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

__all__ = ["check_structure", "read_annotations", "read_counts", "read_meta"]

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


def read_annotations(path: Path, h5: h5py.File) -> dict[str, np.dtype[Any]]:
    """The annotations by name; their dtypes, ``object`` for texts.

    Raises:
        StoreFormatError: One has a name or a type that no annotation has.
    """
    found = {}
    for name, dataset in h5["annotations"].items() if "annotations" in h5 else ():
        dtype = getattr(dataset, "dtype", None)
        if name_problem(name) or dtype is None or annotation_kind(dtype) is None:
            raise StoreFormatError(f"{path}: annotations/{name} is no annotation")
        found[name] = dtype
    return found


def check_structure(path: Path, h5: h5py.File, meta: StoreMeta, counts: StoreCounts) -> None:
    """Every dataset must be plain, wholly inside this file, and as long as the counts say.

    Raises:
        StoreFormatError: A dataset is missing, or is no plain one.
        StoreCorruptError: A dataset has another shape or type, or is cut short.
    """
    size = path.stat().st_size
    groups: set[bytes] = set()
    for name, shape, dtype in _expected(path, h5, meta, counts):
        dataset = _plain_dataset(path, h5.id, name, groups)
        _check_type(path, name, dataset, shape, dtype)
        if not _lies_inside(dataset, size):
            raise StoreCorruptError(f"{path}: cut short: {name} isn't all there")


def _expected(
    path: Path, h5: h5py.File, meta: StoreMeta, counts: StoreCounts
) -> Iterator[_Expected]:
    rows, failed = (counts.embedded,), (counts.failed,)
    yield "embeddings", (*rows, meta.feature_dim), np.dtype(meta.dtype).newbyteorder("<")
    yield "ids", rows, None
    for name, dtype in (IMAGE_DTYPES | OPTIONAL_DTYPES).items():
        if name in IMAGE_DTYPES or f"images/{name}" in h5:
            shape = (*rows, *COLUMN_SHAPES.get(name, ()))
            yield f"images/{name}", shape, None if dtype.hasobject else dtype
    annotations = read_annotations(path, h5)
    for name, dtype in annotations.items():
        yield f"annotations/{name}", rows, None if dtype.hasobject else dtype
    yield from (("failures/id", failed, None), ("failures/reason", failed, None))
    yield "failures/nbytes", failed, _I8
    sums = ["embeddings", "images", "failures"]
    if annotations:
        sums.append("annotations")
    if "labels" in h5:
        yield "labels", rows, None
    if "head" in h5:
        yield from _expected_head(meta)
        sums.append("head")
    blocks = -(-counts.embedded // BLOCK_ROWS)
    for name in sums:
        count = blocks if name in {"embeddings", "images", "annotations"} else None
        yield f"checksums/{name}", (count, 32), _U1


def _expected_head(meta: StoreMeta) -> Iterator[_Expected]:
    # A head that doesn't apply to the rows may be that of another pooling: longer or shorter.
    width = meta.feature_dim if meta.head_applies else None
    yield from (("head/weight", (None, width), _F4), ("head/bias", (None,), _F4))
    yield from (("head/class_names", (None,), None), ("head/class_ids", (None,), None))


def _plain_dataset(
    path: Path, h5: h5py.h5f.FileID, name: str, groups: set[bytes]
) -> h5py.h5d.DatasetID:
    """A dataset that lies in this file, and in ``groups`` that do; h5py's own objects are slow."""
    place, inner = name.encode(), b""
    for part in place.split(b"/"):
        inner = inner + b"/" + part if inner else part
        if inner not in groups and not _is_hard_link(h5, inner):
            raise StoreFormatError(f"{path}: {inner.decode()} is missing, or a link to elsewhere")
        groups.add(inner)
    dataset = h5py.h5o.open(h5, place)
    plain = isinstance(dataset, h5py.h5d.DatasetID)
    layout = dataset.get_create_plist() if plain else None
    if layout is None or layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise StoreFormatError(f"{path}: {name} is not a plain dataset")
    if layout.get_layout() != h5py.h5d.CONTIGUOUS:
        raise StoreFormatError(f"{path}: {name} is not stored in one piece")
    return dataset


def _is_hard_link(h5: h5py.h5f.FileID, place: bytes) -> bool:
    return bool(h5.links.exists(place) and h5.links.get_info(place).type == h5py.h5l.TYPE_HARD)


def _check_type(
    path: Path,
    name: str,
    dataset: h5py.h5d.DatasetID,
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


def _lies_inside(dataset: h5py.h5d.DatasetID, size: int) -> bool:
    expected = math.prod(dataset.shape or ()) * dataset.get_type().get_size()
    offset, nbytes = dataset.get_offset(), dataset.get_storage_size()
    return not expected or (offset is not None and nbytes >= expected and offset + nbytes <= size)
