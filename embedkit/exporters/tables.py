"""Rows of stores as Arrow tables, a row group at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embedkit.store.annotations import optional_values
from embedkit.store.format import IMAGE_DTYPES, OPTIONAL_DTYPES, in_blocks
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.store import EmbeddingStore, RowBlock

__all__ = ["ROW_GROUP", "schema_of", "store_blocks", "table_of", "utf8"]

ROW_GROUP = 16384  # rows


def store_blocks(store: EmbeddingStore) -> Iterator[RowBlock]:
    """All rows, a row group at a time, counted."""
    blocks = in_blocks(store.blocks(), ROW_GROUP)
    return track(blocks, "writing", len(store), unit="rows", size=len)


def schema_of(store: EmbeddingStore, id_column: str, embeddings: str | None) -> Any:
    """The columns of a table of rows, and how the store was made as metadata."""
    fields = [pa.field(id_column, pa.string())]
    if store.has_labels:
        fields.append(pa.field("label", pa.string()))
    for name, dtype in IMAGE_DTYPES.items():
        kind = pa.string() if dtype.hasobject else pa.from_numpy_dtype(dtype)
        fields.append(pa.field(name, pa.binary(32) if name == "content_hash" else kind))
    fields += annotation_fields(store)
    if embeddings is not None:
        fields.append(pa.field(embeddings, pa.list_(pa.float32(), store.meta.feature_dim)))
    return pa.schema(fields, metadata={"embedkit": json.dumps(store.meta.to_config())})


def annotation_fields(store: EmbeddingStore) -> list[Any]:
    """The columns that ``annotate`` put into a store."""
    kinds = {
        "text": pa.string(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "boolean": pa.bool_(),
    }
    return [pa.field(name, kinds[kind]) for name, kind in store.annotations.items()]


def annotation_columns(schema: Any, block: RowBlock) -> dict[str, Any]:
    """The values of those columns, null where missing."""
    names = {*schema.names} & {*block.images} - {*IMAGE_DTYPES, *OPTIONAL_DTYPES}
    return {name: optional_values(block.images[name]) for name in names}


def table_of(schema: Any, block: RowBlock, id_column: str, embeddings: str | None) -> Any:
    """Some rows as a table of this schema."""
    columns: dict[str, Any] = {id_column: [utf8(name) for name in block.ids]}
    columns["label"] = [utf8(label) or None for label in block.labels] or [None] * len(block)
    columns |= {name: block.images[name] for name in ("width", "height", "nbytes", "phash")}
    columns["format"] = [utf8(name) for name in block.images["format"]]
    columns |= annotation_columns(schema, block)
    columns["content_hash"] = [row.tobytes() for row in block.images["content_hash"]]
    if embeddings is not None:
        values = np.ascontiguousarray(block.embeddings, np.float32).reshape(-1)
        columns[embeddings] = pa.FixedSizeListArray.from_arrays(
            pa.array(values), block.embeddings.shape[1]
        )
    return pa.table([_array(columns[f.name], f.type) for f in schema], schema=schema)


def _array(values: Any, kind: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def utf8(value: bytes) -> str:
    """Parquet strings are UTF-8: other bytes are shown as backslash escapes."""
    return value.decode("utf-8", "backslashreplace")
