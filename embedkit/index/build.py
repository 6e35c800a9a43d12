"""Building an index: the rows of stores streamed into faiss, and the folder written."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import faiss
import numpy as np

from embedkit._version import __version__
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.index.files import HashingFile, faiss_errors, new_folder, refuse_existing
from embedkit.index.manifest import MANIFEST, IndexManifest, Metric
from embedkit.store.store import EmbeddingStore
from embedkit.vectors import first_not_finite, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.records import EmbeddingBatch

__all__ = ["IDS_FILE", "INDEX_FILE", "build_index"]

INDEX_FILE, IDS_FILE = "index.faiss", "ids.bin"
_BATCH_ROWS = 4096  # 32 MiB of float32 rows of 2048


def build_index(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    metric: Metric,
    overwrite: bool,
) -> Path:
    """Builds an index; ``Index.build`` tells what of."""
    output = Path(output)
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, not {metric!r}")
    if not stores:
        raise ValueError("nothing to index: give one store or more")
    refuse_existing(output, overwrite=overwrite)
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingStore.open(path)) for path in stores]
        _refuse_mixed(opened)
        folder = stack.enter_context(new_folder(output))
        _write_files(folder, opened, metric)
    return output


def _refuse_mixed(stores: Sequence[EmbeddingStore]) -> None:
    for store in stores[1:]:
        differences = stores[0].meta.differences(store.meta)
        if differences:
            raise StoreMismatchError(str(store.path), differences)


def _write_files(folder: Path, stores: Sequence[EmbeddingStore], metric: Metric) -> None:
    count, dim = sum(map(len, stores)), stores[0].meta.feature_dim
    index, vectors = _flat_index(folder, count, dim, metric)
    with HashingFile(folder / IDS_FILE) as ids:
        for start, batch in _batches(stores):
            rows = unit_rows(batch.embeddings) if metric == "cosine" else batch.embeddings
            vectors[start : start + len(rows)] = rows
            ids.write(
                b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in batch.ids)
            )
    with HashingFile(folder / INDEX_FILE) as file, faiss_errors(folder):
        # Not by name: faiss ends a write to a full disk without an error.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    meta, files = stores[0].meta.to_config(), {INDEX_FILE: file.sha256, IDS_FILE: ids.sha256}
    manifest = IndexManifest("Flat", metric, dim, count, meta, files, __version__)
    with HashingFile(folder / MANIFEST) as file:
        file.write(manifest.to_json())


def _flat_index(
    folder: Path, count: int, dim: int, metric: Metric
) -> tuple[faiss.IndexFlat, NDArray[np.float32]]:
    """A flat index of ``count`` zero vectors, and its memory as an array to fill.

    Its ``add`` would double the memory as it grows, and copy.
    """
    index = faiss.IndexFlat(dim, faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
    if count == 0:
        return index, np.empty((0, dim), np.float32)
    with faiss_errors(folder):
        index.codes.resize(4 * count * dim)
    index.ntotal = count
    memory = faiss.rev_swig_ptr(index.codes.data(), 4 * count * dim)
    return index, memory.view(np.float32).reshape(count, dim)


def _batches(stores: Sequence[EmbeddingStore]) -> Iterator[tuple[int, EmbeddingBatch]]:
    """All rows of all stores, checked, and where each batch starts in the index."""
    start = 0
    for store in stores:
        for batch in store.iter_batches(_BATCH_ROWS):
            bad = first_not_finite(batch.embeddings)
            if bad is not None:
                raise StoreError(f"{store.path}: the embedding of {batch.ids[bad]} isn't finite")
            yield start, batch
            start += len(batch.ids)
