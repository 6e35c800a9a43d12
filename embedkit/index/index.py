"""The index that users open: an index is a folder of three files.

::

    photos.index/
      index.faiss     the faiss index
      ids.bin         the ids in the rows' order, each ended by a NUL byte (``xargs -0`` reads it)
      manifest.json   format, metric, how the vectors were embedded, SHA-256 of the files
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import faiss
import numpy as np

from embedkit.errors import IndexCorruptError, IndexMismatchError
from embedkit.index.build import IDS_FILE, INDEX_FILE, build_index
from embedkit.index.files import checked_file, faiss_errors
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.records import Neighbors
from embedkit.store.format import StoreMeta
from embedkit.vectors import first_not_finite, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.index.manifest import Metric

__all__ = ["Index"]

# Embeddings can be compared though these differ: where and by whom they were made, how they were
# stored, and which images were refused.
_MAY_DIFFER = (
    "source",
    "plan_hash",
    "embedkit_version",
    "weights",
    "engine",
    "dtype",
    "head_applies",
)
_LIMITS = ("decode.max_pixels", "decode.max_bytes")


class Index:
    """An index of N embeddings, in memory; get one from ``Index.open``.

    Attributes:
        path: Its folder.
        factory: The faiss factory string, ``Flat`` (exact).
        metric: ``cosine``, ``ip`` (inner product) or ``l2`` (negative squared distance).
        dim: D, the length of the vectors.
        meta: How the vectors were embedded.
    """

    def __init__(self, path: Path, manifest: IndexManifest, index: faiss.Index, ids: bytes) -> None:
        self.path = path
        self.factory = manifest.factory
        self.metric = manifest.metric
        self.dim = manifest.dim
        self.meta = StoreMeta.from_config(manifest.meta)
        self._index = index
        self._ids = ids
        self._ends = np.flatnonzero(np.frombuffer(ids, np.uint8) == 0)

    def __len__(self) -> int:
        return len(self._ends)

    @classmethod
    def build(
        cls,
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        metric: Metric = "cosine",
        overwrite: bool = False,
    ) -> Path:
        """Builds an exact index from one store or several of the same kind of embedding.

        The rows are streamed: peak memory is the index, ``4 * N * D`` bytes, and a fixed buffer.

        Args:
            stores: Store files or folders; rows keep their order, store after store.
            output: The folder to make; it appears when it is whole.
            metric: How closeness is measured.
            overwrite: Whether an existing index is replaced (never a folder that is none).

        Returns:
            ``output``.

        Raises:
            StoreMismatchError: Two stores were embedded in different ways.
            StoreError: A store can't be read, or holds values that aren't finite.
            IndexFileError: ``output`` exists, or can't be written.
            ValueError: There is no such metric, or no store was given.
        """
        one = isinstance(stores, str) or hasattr(stores, "__fspath__")
        paths = [cast("str", stores)] if one else list(cast("Sequence[str]", stores))
        return build_index(paths, output, metric=metric, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Index:
        """Reads an index into memory, checked.

        Args:
            path: The index's folder.

        Raises:
            IndexFileError: There is no index at ``path``, or one of another format.
            IndexCorruptError: A file isn't the one that was written.
        """
        path = Path(path)
        manifest = IndexManifest.read(path / MANIFEST)
        with checked_file(path / IDS_FILE, manifest.files) as file:
            ids = file.read()
        # Hashed before faiss sees a byte: its reader isn't made for hostile files.
        with checked_file(path / INDEX_FILE, manifest.files) as file, faiss_errors(path):
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined]
        if (index.ntotal, ids.count(0), index.d) != (manifest.count, manifest.count, manifest.dim):
            raise IndexCorruptError(f"{path}: vectors, ids and manifest don't fit together")
        return cls(path, manifest, index, ids)

    def search(self, queries: NDArray[np.floating], k: int = 10) -> Neighbors:
        """Finds the nearest images of each query.

        Args:
            queries: ``(Q, D)`` float16 or float32; need not be normalised, whatever the metric.
            k: How many to find.

        Returns:
            Ids and scores, best first. The score is the cosine, the inner product or the negative
            squared L2 distance, to float32 precision. With fewer than ``k`` images in the index
            there are fewer ids, and the other scores are NaN.

        Raises:
            ValueError: ``queries`` has the wrong shape or values that aren't finite, or ``k < 1``.
        """
        vectors = self._prepare(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        found = min(k, len(self))
        scores = np.full((len(vectors), k), np.nan, np.float32)
        if found == 0 or len(vectors) == 0:
            return Neighbors(((),) * len(vectors), scores)
        with faiss_errors(self.path):
            measured, rows = self._index.search(vectors, found)
        scores[:, :found] = -measured if self.metric == "l2" else measured
        return Neighbors(tuple(tuple(map(self._id, row)) for row in rows.tolist()), scores)

    def check_compatible(self, meta: StoreMeta) -> None:
        """Refuses queries that were embedded otherwise than the index.

        Args:
            meta: How the queries were embedded.

        Raises:
            IndexMismatchError: They can't be compared; the message names each difference.
        """
        # To the cosine it is all the same whether rows are normalised.
        ignore = [*_MAY_DIFFER, *(["normalized"] if self.metric == "cosine" else [])]
        differences = self.meta.differences(meta, ignore=ignore)
        told = [
            f"{key}: {mine} in the index, {other} in the queries"
            for key, (mine, other) in differences.items()
            if key not in _LIMITS
        ]
        if told:
            raise IndexMismatchError(
                f"{self.path}: the queries were embedded otherwise ({'; '.join(told)}); embed "
                "them as the index was, or build an index of their kind"
            )

    def _prepare(self, queries: NDArray[np.floating]) -> NDArray[np.float32]:
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (Q, {self.dim}), not {queries.shape}")
        bad = first_not_finite(queries)
        if bad is not None:
            raise ValueError(f"query {bad} holds values that aren't finite")
        if self.metric == "cosine":
            return unit_rows(queries)
        return np.ascontiguousarray(queries, dtype=np.float32)

    def _id(self, row: int) -> str:
        start = int(self._ends[row - 1]) + 1 if row else 0
        return self._ids[start : int(self._ends[row])].decode("utf-8", "surrogateescape")
