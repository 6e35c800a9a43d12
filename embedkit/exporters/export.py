"""Stores in other formats: Parquet, npy as clip-retrieval has it, LanceDB, HDF5, Atlas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow.parquet as pq

from embedkit.errors import StoreError
from embedkit.exporters.atlas import write_atlas
from embedkit.exporters.tables import ROW_GROUP, schema_of, store_blocks, table_of
from embedkit.store import EmbeddingStore, merge
from embedkit.store.reader import refuse_damaged
from embedkit.utils.atomic_write import atomic_file, atomic_folder
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os

    from embedkit.utils.progress import ProgressCallback

__all__ = ["export"]

_TABLE = "images"  # in LanceDB
_FOLDERS = {
    "npy": {"img_emb", "metadata"},
    "lancedb": {f"{_TABLE}.lance"},
}
"""What lies in the folders that are written."""
_NEEDLESS = {"torch": "embedkit.torch.StoreDataset reads the store itself"}
"""Formats that may be asked for, and what makes each one needless."""


def export(
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: Literal["npy", "parquet", "h5", "lancedb", "atlas"],
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> Path | str:
    """Writes a store in another format, streaming.

    ``parquet`` is one file: ``id``, ``label`` (where there are labels), the columns of
    ``/images``, those that ``annotate`` put in (null where missing), and ``embedding``, a
    fixed-size list of D float32. ``npy`` is a folder as clip-retrieval lays it out:
    ``img_emb/img_emb_0.npy`` (``(N, D)``, the store's dtype) and ``metadata/metadata_0.parquet``
    (the same rows, ``image_path`` in the place of ``id``).
    ``h5`` is the store itself as one file; its ``output`` may be a URL, as that of `merge`.
    ``lancedb`` is a LanceDB database, a folder, with a table ``images`` of the columns of
    ``parquet``; the embedding's column is named ``vector``.
    ``atlas`` is a Parquet file for the viewer embedding-atlas: ``x``, ``y``, ``neighbors``, the
    facts of the images and some thumbnails, without the embeddings.
    PyTorch needs no export: ``embedkit.torch.StoreDataset`` reads the store.

    Args:
        store: A file or folder of shards.
        output: The file, or for ``npy`` and ``lancedb`` the folder, to write.
        to: The format.
        overwrite: Whether something that exists is replaced.
        progress: True shows a progress bar; a function is called with each `Progress`.

    The store is verified before.

    Returns:
        ``output``.

    Raises:
        StoreCorruptError: The store is damaged.
        StoreError: ``output`` exists or can't be written, or the store can't be read.
        MissingExtraError: lancedb isn't installed.
        ValueError: There is no such format.
    """
    output = Path(output)
    if to not in {*_FOLDERS, "parquet", "h5", "atlas"}:
        reason = _NEEDLESS.get(to, "npy, parquet, h5, lancedb or atlas")
        raise ValueError(f"can't export to {to!r}: {reason}")
    if to == "lancedb":
        require_extra("lancedb", "lancedb", "exporting to LanceDB")
    with reporting(progress), EmbeddingStore.open(store) as opened:
        _refuse_loss(opened, output, to, overwrite=overwrite)
        if to == "h5":
            return merge([store], output, overwrite=overwrite)  # which verifies by itself
        refuse_damaged(opened.shard_paths)
        if to == "atlas":
            write_atlas(store, output)
        elif to == "parquet":
            _write_parquet(opened, output, id_column="id", embeddings="embedding")
        else:
            _write_folder(opened, output, to, overwrite=overwrite)
    return output


def _refuse_loss(store: EmbeddingStore, output: Path, to: str, *, overwrite: bool) -> None:
    """Never replaces the store itself, nor what is no export by its kind."""
    sources = {path.resolve() for path in (store.path, *store.shard_paths)}
    if output.resolve() in sources:
        raise StoreError(f"{output}: is the store itself; choose another output")
    if output.exists() and not output.is_dir() and (to in _FOLDERS or not output.is_file()):
        kind = "is a file" if output.is_file() else "is neither a file nor a folder"
        raise StoreError(f"{output}: {kind}, and no export; choose another output")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; overwrite=True replaces it")
    if output.is_dir() and not {p.name for p in output.iterdir()} <= _FOLDERS.get(to, set()):
        raise StoreError(f"{output}: is a folder, but no export; remove it first")


def _write_folder(store: EmbeddingStore, output: Path, to: str, *, overwrite: bool) -> None:
    """Writes into a folder of its own beside ``output``, then moves what is whole there."""
    try:
        with atomic_folder(output, overwrite=overwrite) as whole:
            _WRITERS[to](store, whole)
    except OSError as exc:
        raise StoreError(f"{output}: can't be written: {exc.strerror or exc}") from exc


def _write_npy_folder(store: EmbeddingStore, folder: Path) -> None:
    for part in _FOLDERS["npy"]:
        (folder / part).mkdir()
    _write_npy(store, folder / "img_emb" / "img_emb_0.npy")
    _write_parquet(
        store, folder / "metadata" / "metadata_0.parquet", id_column="image_path", embeddings=None
    )


def _write_lancedb(store: EmbeddingStore, folder: Path) -> None:
    import lancedb

    schema = schema_of(store, "id", "vector")
    batches = (
        batch
        for block in store_blocks(store)
        for batch in table_of(schema, block, "id", "vector").to_batches()
    )
    try:
        data = batches if len(store) else None  # it takes no iterator without a batch
        lancedb.connect(folder).create_table(_TABLE, data, schema=schema)
    except (RuntimeError, ValueError) as exc:  # what its Rust core raises, a full disk included
        told = " ".join(str(exc).split())
        raise StoreError(f"{folder}: can't be written: {told}") from exc


def _write_npy(store: EmbeddingStore, output: Path) -> None:
    """Writes the rows as a file, not as a memory map, which a full disk would end with SIGBUS."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(store.meta.dtype)),
        "fortran_order": False,
        "shape": (len(store), store.meta.feature_dim),
    }
    with atomic_file(output) as file:
        np.lib.format.write_array_header_1_0(file, header)
        batches = track(
            store.iter_batches(ROW_GROUP), "writing", len(store), unit="rows",
            size=lambda batch: len(batch.ids),
        )  # fmt: skip
        for batch in batches:
            file.write(np.ascontiguousarray(batch.embeddings).data)


def _write_parquet(
    store: EmbeddingStore, output: Path, *, id_column: str, embeddings: str | None
) -> None:
    schema = schema_of(store, id_column, embeddings)
    with atomic_file(output) as file, pq.ParquetWriter(file, schema) as writer:
        for block in store_blocks(store):
            writer.write_table(table_of(schema, block, id_column, embeddings))


_WRITERS = {
    "npy": _write_npy_folder,
    "lancedb": _write_lancedb,
}
"""How each folder is filled."""
