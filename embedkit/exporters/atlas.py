"""Writes a store as the Parquet file that embedding-atlas reads: map, neighbors, facts, images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.analysis.embedding_map.layout import SAMPLE, lay_out_store
from embedkit.analysis.embedding_map.words import words_of
from embedkit.exporters.tables import (
    annotation_columns,
    annotation_fields,
    store_blocks,
    utf8,
)
from embedkit.extraction.source_images import policy_of
from embedkit.index.knn_graph import knn_graph
from embedkit.index.store_rows import StoreRows
from embedkit.report.thumbnails import thumbnails, thumbnails_if_found
from embedkit.store.format import COLUMN_SHAPES, IMAGE_DTYPES, OPTIONAL_DTYPES
from embedkit.utils.atomic_write import atomic_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.analysis.embedding_map.projection import LayoutMethod
    from embedkit.index.knn_graph import NeighborGraph
    from embedkit.report import Picture
    from embedkit.store import EmbeddingStore, RowBlock

__all__ = ["ATLAS_COLUMNS", "write_atlas"]

ATLAS_COLUMNS = {"x": "x", "y": "y", "neighbors": "neighbors"}
"""The columns that embedding-atlas needs, by the names of its options."""

_NEIGHBORS = 15
_SIDE = 96  # pixels
_LEFT_OUT = {*COLUMN_SHAPES, "phash", "etag"}  # numbers that say nothing to people
_TIMES = {"mtime": 1_000_000_000, "captured": 1}
"""Columns of times, and their units per second. The viewer refuses integers beyond 2**53."""
_TIME_TYPE = pa.timestamp("us")
_NEIGHBORS_TYPE = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])


def write_atlas(
    store: str | os.PathLike[str],
    output: Path,
    *,
    method: LayoutMethod = "auto",
    sample: int = SAMPLE,
    pictures: int = 2_000,
    images: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
) -> None:
    """Writes a store for embedding-atlas, streaming.

    The columns are ``id``; ``image``, a thumbnail as a ``data:image/`` URI, of some images;
    ``label`` and ``class`` where there are any; those of ``/images`` that tell something, times as
    timestamps; those of ``annotate``, whole numbers as floats, without names that the file has
    already; ``x`` and ``y`` in the unit square; and ``neighbors``, ``{"ids": rows from 0,
    "distances": 1 - cosine}`` of the 15 nearest other images, the nearest first.

    Args:
        store: A store file or folder.
        output: The Parquet file; an existing one is replaced.
        method: As for ``plot``.
        sample: As for ``plot``.
        pictures: Maximum number of thumbnails, chosen at random.
        images: The sources that the images are of, where these lie now. None: ids are taken for
            paths, and a warning is logged if not one is found.
        seed: Random seed.

    Raises:
        SourceError: ``images`` holds none of the images.
        StoreError: The store can't be read, an embedding isn't finite, or ``output`` can't be
            written.
        MissingExtraError: ``method`` is ``umap``, and umap-learn isn't installed.
    """
    with (
        StoreRows.open([store]) as rows,
        tempfile.TemporaryDirectory(prefix="embedkit-") as folder,
    ):
        (opened,) = rows.stores
        points = lay_out_store(rows, method, sample, seed).points
        graph = knn_graph(rows, np.arange(len(rows)), _NEIGHBORS, Path(folder), seed=seed)
        classes = _classes(opened)
        shown = _pictures(opened, pictures, images, seed)
        schema = _schema(opened, has_classes=classes is not None)
        with atomic_file(output) as file, pq.ParquetWriter(file, schema) as writer:
            start = 0
            for block in store_blocks(opened):
                some = slice(start, start + len(block))
                columns = (
                    annotation_columns(schema, block)
                    | _facts(block, schema.names)
                    | {
                        "class": classes[some] if classes else None,
                        "image": [shown.get(row) for row in range(some.start, some.stop)],
                        "x": points[some, 0],
                        "y": points[some, 1],
                        "neighbors": _neighbors(graph, some),
                    }
                )
                arrays = [_array(columns[field.name], field.type) for field in schema]
                writer.write_table(pa.table(arrays, schema=schema))
                start = some.stop


def _classes(store: EmbeddingStore) -> list[str] | None:
    """The most probable class of each image; None without a classifier that applies."""
    has_head = store.meta.head_applies and store.head is not None
    return words_of(store, "class")[1] if has_head else None


def _schema(store: EmbeddingStore, *, has_classes: bool) -> Any:
    fields = [("id", pa.string()), ("image", pa.string())]
    fields += [("label", pa.string())] if store.has_labels else []
    fields += [("class", pa.string())] if has_classes else []
    for name, dtype in (IMAGE_DTYPES | OPTIONAL_DTYPES).items():
        if name in store.columns and name not in _LEFT_OUT:
            kind = pa.string() if dtype.hasobject else pa.from_numpy_dtype(dtype)
            fields.append((name, _TIME_TYPE if name in _TIMES else kind))
    own = {name for name, _ in fields} | {"class", "x", "y", "neighbors"}
    fields += [
        (field.name, pa.float64() if field.type == pa.int64() else field.type)
        for field in annotation_fields(store)
        if field.name not in own
    ]
    fields += [("x", pa.float32()), ("y", pa.float32()), ("neighbors", _NEIGHBORS_TYPE)]
    return pa.schema(fields)


def _facts(block: RowBlock, names: Sequence[str]) -> dict[str, Any]:
    """The columns of a block that are stored; what isn't known is null."""
    columns: dict[str, Any] = {"id": [utf8(name) for name in block.ids]}
    columns["label"] = [utf8(label) or None for label in block.labels] or [None] * len(block)
    for name in set(names) & (IMAGE_DTYPES | OPTIONAL_DTYPES).keys():
        values = block.column(name)
        if values.dtype.hasobject:
            columns[name] = [utf8(value) or None for value in values]
        elif name in OPTIONAL_DTYPES:
            is_unknown = np.isnan(values) | (values == -1)
            if name in _TIMES:
                values = (values / _TIMES[name] * 1e6).astype("datetime64[us]")
            columns[name] = pa.array(values, mask=is_unknown)
        else:
            columns[name] = values
    return columns


def _pictures(
    store: EmbeddingStore, count: int, images: Sequence[str | os.PathLike[str]], seed: int
) -> Mapping[int, str]:
    """Row to thumbnail, of some images."""
    rows = np.random.default_rng(seed).permutation(len(store))[:count]
    names = {int(row): store.ids[int(row)] for row in rows}
    digests = store.images("content_hash")[rows]
    hashes = {name: one.tobytes() for name, one in zip(names.values(), digests, strict=True)}
    make = thumbnails if images else thumbnails_if_found
    made: Mapping[str, Picture] = make(
        hashes, policy_of(store.meta), _SIDE, images=images, roots=store.meta.folders(),
        hashes=hashes,
    )  # fmt: skip
    found = {row: made[name].thumbnail for row, name in names.items() if name in made}
    return {row: thumbnail for row, thumbnail in found.items() if thumbnail}


def _neighbors(graph: NeighborGraph, some: slice) -> Any:
    """The neighbors of some rows, as embedding-atlas reads them."""
    found = np.asarray(graph.neighbors[some])
    is_found = found >= 0
    ends = np.concatenate([[0], np.cumsum(is_found.sum(axis=1))]).astype(np.int32)
    distances = np.maximum(1 - np.asarray(graph.cosines[some]), 0)[is_found]
    lists = [
        pa.ListArray.from_arrays(pa.array(ends), pa.array(values))
        for values in (found[is_found].astype(np.int64), distances.astype(np.float32))
    ]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])


def _array(values: Any | NDArray[Any], kind: Any) -> Any:
    if isinstance(values, pa.Array):
        return values
    if kind == pa.float64():  # whole numbers that no float is exactly are rounded
        return pa.array(values).cast(kind, safe=False)
    return pa.array(values, kind)
