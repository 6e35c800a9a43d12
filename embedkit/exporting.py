"""Stores in other formats: Parquet, the npy + Parquet layout of clip-retrieval, plain HDF5."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.errors import MissingExtraError, StoreError
from embedkit.store import EmbeddingStore, merge
from embedkit.store.atomic import atomic_file
from embedkit.store.format import IMAGE_DTYPES

if TYPE_CHECKING:
    import os

    from embedkit.store import RowBlock

__all__ = ["export"]

_ROW_GROUP = 16384  # rows


def export(
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: Literal["npy", "parquet", "h5"],
    overwrite: bool = False,
) -> Path:
    """Writes a store in another format, streaming.

    ``parquet`` is one file: ``id``, ``label`` (where there are labels), the columns of
    ``/images`` and ``embedding``, a fixed-size list of D float32. ``npy`` is a folder as
    clip-retrieval lays it out: ``img_emb/img_emb_0.npy`` (``(N, D)``, the store's dtype) and
    ``metadata/metadata_0.parquet`` (the same rows, ``image_path`` in the place of ``id``).
    ``h5`` is the store itself as one file.

    Args:
        store: A file or folder of shards.
        output: The file, or for ``npy`` the folder, to write.
        to: The format.
        overwrite: Whether something that exists is replaced.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written, or the store can't be read.
        MissingExtraError: pyarrow isn't installed.
        ValueError: There is no such format.
    """
    output = Path(output)
    if to not in {"npy", "parquet", "h5"}:
        raise ValueError(f"can't export to {to!r}: npy, parquet or h5")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; --overwrite replaces it")
    if to == "h5":
        return merge([store], output, overwrite=overwrite)
    with EmbeddingStore.open(store) as opened:
        if to == "parquet":
            _write_parquet(opened, output, id_column="id", with_embeddings=True)
        else:
            _write_npy_folder(opened, output)
    return output


def _write_npy_folder(store: EmbeddingStore, output: Path) -> None:
    """Writes into a folder beside ``output``, which gets its name when it is whole."""
    temporary = output.with_name(output.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in ("img_emb", "metadata"):
        (temporary / name).mkdir(parents=True)
    shape = (len(store), store.meta.feature_dim)
    path = temporary / "img_emb" / "img_emb_0.npy"
    array = np.lib.format.open_memmap(path, "w+", store.meta.dtype, shape) if len(store) else None
    if array is None:
        np.save(path, np.empty(shape, store.meta.dtype))
    else:
        for batch in store.iter_batches(_ROW_GROUP):
            array[batch.start : batch.start + len(batch.ids)] = batch.embeddings
        array.flush()
    metadata = temporary / "metadata" / "metadata_0.parquet"
    _write_parquet(store, metadata, id_column="image_path", with_embeddings=False)
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink(missing_ok=True)
    temporary.replace(output)


def _write_parquet(
    store: EmbeddingStore, output: Path, *, id_column: str, with_embeddings: bool
) -> None:
    pa, pq = _import_pyarrow()
    with_labels = store.labels is not None
    schema = _schema(pa, store, id_column, with_labels, with_embeddings)
    with atomic_file(output) as file, pq.ParquetWriter(file, schema) as writer:
        for block in store.blocks():
            writer.write_table(_table(pa, schema, block, id_column))


def _schema(
    pa: Any, store: EmbeddingStore, id_column: str, with_labels: bool, with_embeddings: bool
) -> Any:
    fields = [pa.field(id_column, pa.string())]
    if with_labels:
        fields.append(pa.field("label", pa.string()))
    for name, dtype in IMAGE_DTYPES.items():
        kind = pa.string() if dtype.hasobject else pa.from_numpy_dtype(dtype)
        fields.append(pa.field(name, pa.binary(32) if name == "content_hash" else kind))
    if with_embeddings:
        fields.append(pa.field("embedding", pa.list_(pa.float32(), store.meta.feature_dim)))
    return pa.schema(fields, metadata={"embedkit": json.dumps(store.meta.to_config())})


def _table(pa: Any, schema: Any, block: RowBlock, id_column: str) -> Any:
    columns: dict[str, Any] = {id_column: [_text(name) for name in block.ids]}
    columns["label"] = [_text(label) or None for label in block.labels] or [None] * len(block)
    columns |= {name: block.images[name] for name in ("width", "height", "nbytes", "phash")}
    columns["format"] = [_text(name) for name in block.images["format"]]
    columns["content_hash"] = [row.tobytes() for row in block.images["content_hash"]]
    if "embedding" in schema.names:
        values = np.ascontiguousarray(block.embeddings, np.float32).reshape(-1)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(
            pa.array(values), block.embeddings.shape[1]
        )
    return pa.table([_array(pa, columns[f.name], f.type) for f in schema], schema=schema)


def _array(pa: Any, values: Any, kind: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _text(value: bytes) -> str:
    """Parquet strings are UTF-8: other bytes are shown as backslash escapes."""
    return value.decode("utf-8", "backslashreplace")


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "parquet", "exporting Parquet") from exc
    return pa, pq
