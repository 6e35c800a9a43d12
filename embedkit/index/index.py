"""``Index``: the index that users open. docs/formats.md describes its folder."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.distributed.cluster import RayCluster
from embedkit.errors import IndexCorruptError, IndexFileError
from embedkit.index.auto_select import choose
from embedkit.index.build import build_index
from embedkit.index.build_cost import StepCost, build_cost
from embedkit.index.evaluate import measure
from embedkit.index.exact import ExactSearcher, exact_index
from embedkit.index.faiss_types import faiss_errors
from embedkit.index.generation import ContentReader
from embedkit.index.id_table import IdTable
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.index.open import make_searcher, refuse_other_queries
from embedkit.index.openmp import respect_cores
from embedkit.index.spec import IndexSpec
from embedkit.index.store_rows import StoreRows
from embedkit.index.store_update import update_from_stores
from embedkit.index.update import add_stores, compact_index, remove_ids
from embedkit.store.detect import is_store
from embedkit.store.format import StoreMeta
from embedkit.store.object_cache import find
from embedkit.types import Neighbors
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting
from embedkit.utils.timing import timed
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.index.auto_select import Choice
    from embedkit.index.generation import Check
    from embedkit.index.manifest import OperatingPoint
    from embedkit.index.searcher import Searcher
    from embedkit.index.spec import Metric
    from embedkit.index.store_rows import RowOrder
    from embedkit.index.store_update import IndexUpdate
    from embedkit.store import EmbeddingStore
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Index"]

_OPENINGS = 5  # attempts to open an index that is being changed


class Index:
    """An index of N embeddings, open for searching; get one from ``Index.open``.

    A snapshot: later changes on disk don't affect an open index. Use it as a context manager.

    Attributes:
        path: Its folder.
        manifest: Its settings and measurements.
        factory: The faiss factory string; ``Flat`` is exact.
        metric: ``cosine``, ``ip`` (inner product) or ``l2`` (negative squared distance).
        dim: D, the length of queries.
        meta: How the vectors were embedded.
    """

    def __init__(
        self,
        path: Path,
        manifest: IndexManifest,
        ids: IdTable,
        order: RowOrder,
        searcher: Searcher | ExactSearcher,
    ) -> None:
        self.path, self.manifest = path, manifest
        self.factory, self.metric, self.dim = manifest.factory, manifest.metric, manifest.dim
        self.meta = StoreMeta.from_config(manifest.meta)
        self._ids, self._order, self._searcher = ids, order, searcher

    def __len__(self) -> int:
        return self.manifest.count - self.manifest.removed

    def __repr__(self) -> str:
        return (
            f"<Index {str(self.path)!r}: {len(self):,} images x {self.dim}, {self.factory}, "
            f"{self.metric}, {self.meta.backbone}>"
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of its manifest, which covers its whole content."""
        return hashlib.sha256(self.manifest.to_json()).hexdigest()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of the stores that it was built from, in order."""
        return tuple(entry.fingerprint for entry in self.manifest.stores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stores; the index can't be searched any more."""
        self._searcher.close()
        if self._searcher.rows is not None:
            self._searcher.rows.close()

    @classmethod
    @plain_numbers
    def build(
        cls,
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        spec: IndexSpec | None = None,
        *,
        metric: Metric | None = None,
        overwrite: bool = False,
        ray: str | None = None,
        workers: int | None = None,
        work_dir: str | os.PathLike[str] | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Path | str:
        """Builds an index from one or more stores with the same embedding settings.

        The rows are streamed: peak memory is the index and at most 512 MiB. An
        interrupted build resumes when it is called again with the same arguments.

        Args:
            stores: Store files or folders.
            output: The folder to write, or its URL, such as ``s3://bucket/photos.index``; it
                appears when the index is complete.
            spec: The index settings; None chooses them automatically.
            metric: The metric, if there is no ``spec``; None is ``cosine``.
            overwrite: Whether to replace an existing index (never any other folder) and to discard
                an interrupted build.
            ray: Let workers on a Ray cluster add the rows, in parts that are joined: ``local``
                starts Ray on this machine, ``auto`` finds the cluster that it belongs to; else the
                cluster's address. All machines must see the stores and ``output``. An index without
                inverted lists, such as ``Flat`` or ``HNSW32``, is built by this process.
            workers: Number of Ray workers, at most; None starts one per machine.
            work_dir: Folder for the unfinished work, if ``output`` is a URL; None is
                ``unfinished`` in embedkit's cache. All machines of a cluster must see it.
            progress: True shows a progress bar; a function is called with each `Progress`.

        Returns:
            ``output``; of a URL its text.

        Raises:
            MissingExtraError: ``ray`` isn't installed.
            WorkerError: There is no cluster at the address, or a worker failed; finished parts are
                kept.
            StoreMismatchError: Two stores have different embedding settings.
            StoreError: A store can't be read, or holds values that aren't finite; or the storage of
                a URL can't be written to.
            IndexFileError: ``output`` exists, or can't be written.
            ValueError: The settings can't be met.
        """
        if spec is not None and metric is not None:
            raise ValueError("the metric is part of the spec: give one of the two")
        spec = spec or IndexSpec(metric=metric or "cosine")
        with timed("built the index"), reporting(progress):
            return build_index(
                _as_list(stores), output, spec,
                overwrite=overwrite, cluster=RayCluster.of(ray, workers),
                work_dir=None if work_dir is None else Path(work_dir),
            )  # fmt: skip

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, check: Check = "full") -> Index:
        """Opens an index for searching, or a store, whose rows are then all compared.

        Args:
            path: The index's folder; or a store, which is searched exactly, by the cosine; or the
                URL of one, such as ``s3://bucket/photos.index``.
            check: ``full`` reads every file and compares its hash, about a second for a gigabyte;
                ``fast`` compares only sizes, so a flipped bit goes undetected.

        Raises:
            IndexFileError: There is no index at ``path``, or one of another format, or a store
                that it needs is missing.
            IndexCorruptError: A file is damaged.
            IndexMismatchError: A store that it was built from has changed.
        """
        path = find(path) or Path(path)
        respect_cores()
        if is_store(path):
            return cls.of_store(path)
        for _ in range(_OPENINGS):
            manifest = IndexManifest.read(path / MANIFEST)
            try:
                reader = ContentReader(path, manifest, check)
                ids, order = IdTable(reader.array("ids", "u1")), reader.order()
                searcher = make_searcher(reader, order, len(ids))
                return cls(path, manifest, ids, order, searcher)
            except IndexCorruptError:
                if IndexManifest.read(path / MANIFEST) == manifest:
                    raise  # else it was changed while it was read
        raise IndexCorruptError(f"{path}: changes all the time; open it again")

    @classmethod
    def of_store(cls, path: str | os.PathLike[str], metric: Metric = "cosine") -> Index:
        """Opens a store as an exact index: a search compares each query with every row.

        Nothing is built or written. Each search reads the whole store; below some 100,000 rows
        that takes less than a second.

        Args:
            path: A store file or folder.
            metric: What rows are compared by.

        Raises:
            StoreError: The store can't be read, or has an id twice.
        """
        return cls(Path(path), *exact_index(Path(path), metric))

    @staticmethod
    def choose(
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        spec: IndexSpec | None = None,
    ) -> Choice:
        """Returns what ``build`` would build, and its memory.

        Args:
            stores: Store files or folders.
            spec: The index settings; None chooses them automatically.

        Raises:
            StoreError: A store can't be read, or two have different settings.
            ValueError: The settings can't be met.
        """
        with StoreRows.open(_as_list(stores)) as rows:
            return choose(spec or IndexSpec(), len(rows), rows.dim)

    @staticmethod
    def ray_cost(
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        spec: IndexSpec | None = None,
    ) -> tuple[StepCost, ...]:
        """Estimates what each step of ``build(ray=...)`` takes: tasks, memory, time on one core.

        Args:
            stores: Store files or folders.
            spec: The index settings; None chooses them automatically.

        Returns:
            The steps in order; none if such an index isn't built in parts.

        Raises:
            StoreError: A store can't be read, or two have different settings.
            ValueError: The settings can't be met.
        """
        with StoreRows.open(_as_list(stores)) as rows:
            return build_cost(spec or IndexSpec(), len(rows), rows.dim)

    @property
    def chosen(self) -> OperatingPoint | None:
        """Measurements of the current search setting; None if there are none."""
        return self.manifest.chosen

    def evaluate(
        self, queries: NDArray[np.floating], *, progress: bool | ProgressCallback = False
    ) -> OperatingPoint:
        """Measures recall and time with these queries, against brute force over the stores.

        Args:
            queries: ``(Q, D)`` embeddings of images that aren't in the index (those would find
                themselves).
            progress: True shows a progress bar; a function is called with each `Progress`.

        Raises:
            ValueError: ``queries`` is empty, has the wrong shape or values that aren't finite.
            IndexFileError: A store is missing, or the index (format 1) records none.
            IndexMismatchError: A store has changed.
        """
        queries = self._checked(queries)
        if isinstance(self._searcher, ExactSearcher):
            raise ValueError(f"{self.path}: a store is searched exactly; only an index is measured")
        if not len(queries) or not len(self):
            raise ValueError("nothing to measure: no queries, or an empty index")
        if not self.manifest.stores:
            raise IndexFileError(f"{self.path}: of format 1, which names no stores; build it again")
        with reporting(progress), StoreRows.reopen(self.manifest.stores, self.path) as rows:
            return measure(self._searcher, rows, self._order, queries)

    @staticmethod
    def add(
        path: str | os.PathLike[str],
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        progress: bool | ProgressCallback = False,
    ) -> int:
        """Adds all rows of one or more stores to an index, without retraining it.

        The change is atomic: an index that is already open doesn't see it.

        Args:
            path: The index's folder.
            stores: Store files or folders with the index's embedding settings.
            progress: True shows a progress bar; a function is called with each `Progress`.

        Returns:
            How many rows were added.

        Raises:
            StoreMismatchError: A store has other embedding settings.
            StoreError: A store can't be read, or holds values that aren't finite.
            IndexFileError: A store is in the index already, another process is changing the index,
                or it can't be written.
        """
        with reporting(progress):
            return add_stores(Path(path), _as_list(stores))

    @staticmethod
    def remove(path: str | os.PathLike[str], ids: Iterable[str]) -> int:
        """Removes images from an index by their ids; ``compact`` frees their memory.

        Args:
            path: The index's folder.
            ids: Ids to remove; all rows of an id are removed.

        Returns:
            How many rows were removed.

        Raises:
            ValueError: An id isn't in the index; then none is removed.
            IndexFileError: Another process is changing the index, or it can't be written.
        """
        return remove_ids(Path(path), ids)

    @staticmethod
    def update(
        path: str | os.PathLike[str],
        *,
        measure_recall: bool = True,
        progress: bool | ProgressCallback = False,
    ) -> IndexUpdate:
        """Brings an index up to date with its stores, without retraining it.

        Images are compared by id and content: new ones are added, those that are gone removed,
        changed ones both. Images removed with ``remove`` stay out as long as a store has them.
        The change is atomic: an index that is already open doesn't see it.

        Args:
            path: The index's folder.
            measure_recall: Whether to measure how well new images are found, which reads all
                embeddings once; a much lower recall than that of the build says that the index
                should be built again.
            progress: True shows a progress bar; a function is called with each `Progress`.

        Raises:
            StoreMismatchError: A store has other embedding settings now.
            StoreError: A store can't be read, or holds values that aren't finite.
            IndexFileError: A store is missing, the index has no record of its images' content,
                another process is changing the index, or it can't be written.
        """
        with reporting(progress):
            return update_from_stores(Path(path), measure_recall=measure_recall)

    @staticmethod
    def compact(
        path: str | os.PathLike[str],
        *,
        progress: bool | ProgressCallback = False,
    ) -> int:
        """Rebuilds an index from its stores without the removed rows, without retraining.

        If it is interrupted, the next call resumes it.

        Args:
            path: The index's folder.
            progress: True shows a progress bar; a function is called with each `Progress`.

        Returns:
            Number of rows dropped.

        Raises:
            IndexMismatchError: A store has changed since.
            IndexFileError: A store is missing, another process is changing the index, or it can't
                be written.
        """
        with reporting(progress):
            return compact_index(Path(path))

    @plain_numbers
    def search(
        self,
        queries: NDArray[np.floating],
        k: int = 10,
        *,
        passing: NDArray[np.bool_] | None = None,
    ) -> Neighbors:
        """Finds the nearest images of each query.

        Args:
            queries: ``(Q, D)`` float16 or float32; normalisation isn't needed.
            k: Number of neighbours.
            passing: ``(M,)`` bool over the rows of the index's stores, in order: rows that may be
                found; None allows all.

        Returns:
            Ids and scores, best first. The score is the cosine, the inner product or the negative
            squared L2 distance, in the whitened space if there is one. It is exact, to float32
            precision, unless the index stores lossy codes and doesn't rerank. With fewer than ``k``
            found there are fewer ids, and the other scores are NaN.

        Raises:
            ValueError: ``queries`` has the wrong shape or values that aren't finite, ``k < 1``, or
                ``passing`` isn't of the stores' length.
        """
        queries = self._checked(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        excluded = None if passing is None else self._excluded(np.asarray(passing, np.bool_))
        count = min(k, len(self) if excluded is None else int((~excluded).sum()))
        scores = np.full((len(queries), k), np.nan, np.float32)
        if count == 0 or len(queries) == 0:
            return Neighbors(((),) * len(queries), scores)
        with faiss_errors(self.path):
            positions, measured = self._searcher.search(queries, count, excluded)
        scores[:, :count] = np.where(positions < 0, np.nan, measured)
        return Neighbors(self._ids.names(positions), scores)

    def unknown(self, ids: Iterable[str]) -> set[str]:
        """The ids that the index doesn't have."""
        return self._ids.positions(ids)[1]

    def open_stores(self) -> tuple[EmbeddingStore, ...]:
        """Opens the stores that the index was built from; the caller closes them.

        Raises:
            IndexFileError: A store is missing.
            IndexMismatchError: A store has changed.
        """
        return StoreRows.reopen(self.manifest.stores, self.path).stores

    def check_compatible(self, meta: StoreMeta) -> None:
        """Rejects queries with other embedding settings than the index.

        Args:
            meta: How the queries were embedded.

        Raises:
            IndexMismatchError: They can't be compared; the message names each difference.
        """
        refuse_other_queries(self.path, self.metric, self.meta, meta)

    def has_store(self, store: EmbeddingStore) -> bool:
        """Whether the index was built from a store; True if the index (format 1) records none."""
        entries = self.manifest.stores
        return not entries or any(store.has_rows_of(entry.fingerprint) for entry in entries)

    def found_rows(self) -> NDArray[np.bool_]:
        """``(N,)`` bool over the rows of its stores, in order: rows that a search can find."""
        found = np.zeros(self._num_rows(), np.bool_)
        removed = self._searcher.removed
        order = self._order.span(0, self.manifest.count)
        found[order if removed is None else order[~removed]] = True
        return found

    def _num_rows(self) -> int:
        stores = self.manifest.stores
        return sum(entry.rows for entry in stores) if stores else self.manifest.count

    def _excluded(self, passing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The excluded positions."""
        if passing.shape != (rows := self._num_rows(),):
            raise ValueError(f"passing must be ({rows},), not {passing.shape}")
        excluded = ~passing[self._order.span(0, self.manifest.count)]
        removed = self._searcher.removed
        return excluded if removed is None else excluded | removed

    def _checked(self, queries: NDArray[np.floating]) -> NDArray[np.floating]:
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (Q, {self.dim}), not {queries.shape}")
        bad = first_not_finite(queries)
        if bad is not None:
            raise ValueError(f"query {bad} holds values that aren't finite")
        return queries


def _as_list(
    stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str | os.PathLike[str]]:
    return [stores] if isinstance(stores, str | PathLike) else list(stores)
