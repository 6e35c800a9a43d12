"""The steps of an index build: train, add in parts, tune, write; each is saved when it is done."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embedkit._version import __version__
from embedkit.index.add_vectors import Encoder, load_index
from embedkit.index.autotune import choose_point, exact_point, measure_frontier
from embedkit.index.brute_force import nearest_rows
from embedkit.index.faiss_io import write_faiss
from embedkit.index.faiss_types import (
    SearchParams,
    adds_at_once,
    can_rename,
    make_index,
    search_grid,
    set_params,
)
from embedkit.index.generation import copy_into
from embedkit.index.inverted_lists import merge_on_disk, name_lists, rename_vectors
from embedkit.index.manifest import IndexManifest, OperatingPoint
from embedkit.index.parts import join_parts, part_of, write_part
from embedkit.index.prepare import ORDER, TRAINED, WHITENING, prepare
from embedkit.index.ray_parts import NEAREST, RayParts
from embedkit.index.rerank import Reranker
from embedkit.index.searcher import Searcher
from embedkit.index.store_rows import RowOrder
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import faiss
    from numpy.typing import NDArray

    from embedkit.distributed.cluster import RayCluster
    from embedkit.index.build_plan import Plan
    from embedkit.index.generation import ContentWriter
    from embedkit.index.store_rows import StoreRows
    from embedkit.index.working_dir import PartialIndex

__all__ = ["IndexBuild", "write_ids"]

_log = logging.getLogger("embedkit")

_TUNED, _HELD = "tuned.json", "held.faiss"
_FACTORS, _REORDERED = "factors.f4", "factors-straight.f4"
_TUNING_LISTS, _LISTS = "lists-tuning.bin", "lists-final.bin"
_UNTUNED_FACTOR = 8
_IDS_AT_ONCE = 65536


class IndexBuild:
    """The build of one index by its plan, in its working folder.

    Attributes:
        plan: What to build.
        index: The faiss index; after ``run`` with all rows.
    """

    def __init__(
        self,
        folder: PartialIndex,
        plan: Plan,
        rows: StoreRows,
        cluster: RayCluster | None = None,
    ) -> None:
        """Prepares a build.

        Args:
            folder: The working folder, locked.
            plan: What to build.
            rows: The stores' rows.
            cluster: The Ray cluster whose workers add the rows; None for this process.
        """
        self.plan = plan
        self._ray = None if cluster is None else RayParts(cluster, folder, plan)
        self.index: faiss.Index = make_index(
            plan.factory, plan.spec.whiten or rows.dim, plan.spec.metric
        )
        self._partial, self._rows = folder, rows
        self._first_held = plan.count - plan.held
        self._at_once = adds_at_once(self.index)
        self._points: tuple[OperatingPoint, ...] = ()

    def run(self) -> IndexBuild:
        """Does the steps that aren't done yet.

        Raises:
            StoreError: A store can't be read, or holds values that aren't finite.
            ValueError: There are too few rows for the index.
            OSError: Something can't be written.
        """
        prepared = prepare(self._partial, self.plan, self._rows)
        self._order, self._space, self.index = prepared.order, prepared.space, prepared.index
        if self._ray is not None and part_of(self.index) is None:
            _log.warning("%s can't be built in parts: this process does it", self.plan.factory)
            self._ray = None
        self._make_factors()
        self._encoder = Encoder(self._rows, self._order, self._space, self._path(_FACTORS))
        self._add()
        if self.plan.generation == 0:
            self._tune()
        self._add_held()
        return self

    def write(self, writer: ContentWriter, before: IndexManifest | None = None) -> IndexManifest:
        """Writes the index's files.

        Args:
            writer: Where to.
            before: The index that this one is made of, whose tuning stays.

        Returns:
            The manifest, to be written last.
        """
        if self.plan.on_disk:
            self._partial.move(_LISTS, writer.path("lists"))
            writer.add_existing("lists")
            name_lists(self.index, writer.path("lists").name)
        factors = self._reorder_ids()
        set_params(
            self.index, search_grid(self.index)[0]
        )  # so that the file doesn't depend on timing
        writer.write("index", lambda write: write_faiss(self.index, write))
        writer.write("ids", self._write_ids)
        writer.write("hashes", self._write_hashes)
        for role, name, is_needed in (
            ("trained", TRAINED, True),
            ("rows", ORDER, not self._order.is_plain),
            ("factors", factors, self.plan.rerank and self._space.num_factors > 0),
            ("whitening", WHITENING, self._space.whitening is not None),
        ):
            if is_needed:
                writer.write(role, partial(copy_into, self._path(name)))
        return self._manifest(writer, before)

    def _reorder_ids(self) -> str:
        """Changes the ids of vectors to their row numbers, if the index can rename them.

        Held-out rows must be last only during the build.

        Returns:
            The file of the factors.
        """
        if self._order.is_plain or self.plan.on_disk or not can_rename(self.index):
            return _FACTORS
        if self.plan.count != len(self._rows):
            return _FACTORS  # what was removed leaves gaps
        order = self._order.span(0, self.plan.count)
        rename_vectors(self.index, order)
        if width := self._space.num_factors:
            before = np.fromfile(self._path(_FACTORS), "<f4").reshape(-1, width)
            reordered = np.empty_like(before)
            reordered[order] = before
            self._partial.keep(_REORDERED, reordered.tobytes())  # a rerun needs the others
        self._order = RowOrder(self.plan.count)
        return _REORDERED

    def _manifest(self, writer: ContentWriter, before: IndexManifest | None) -> IndexManifest:
        plan, spec = self.plan, self.plan.spec
        return IndexManifest(
            factory=plan.factory,
            metric=spec.metric,
            dim=self._rows.dim,
            count=plan.count,
            meta=self._rows.meta.to_config(),
            files=writer.files,
            embedkit_version=__version__,
            spec=spec,
            stores=plan.stores,
            rerank=plan.rerank,
            on_disk=plan.on_disk,
            params=before.params if before else self._params(),
            frontier=before.frontier if before else self._points,
            queries=before.queries if before else plan.held,
            bytes_per_vector=round((writer.files["index"].nbytes or 0) / max(plan.count, 1), 1),
            generation=plan.generation,
        )

    def _params(self) -> SearchParams:
        if self._points:
            return choose_point(self._points, self.plan.spec.recall, self.plan.spec.latency).params
        widest = search_grid(self.index)[-1]
        factor = _UNTUNED_FACTOR if self.plan.rerank else 1
        return SearchParams(widest.nprobe, widest.ef_search, factor)

    def _make_factors(self) -> None:
        path = self._path(_FACTORS)
        if not path.exists():
            self._partial.keep(_FACTORS, b"")

    def _add(self) -> None:
        """Adds all but the held-out rows."""
        if self._at_once:
            self._encoder.add(self.index, 0, self.plan.count)
            return
        part = part_of(self.index)
        if part is None:
            self.index = self._encoder.add_growing(self._partial, self.index, self._first_held)
            return
        if self._ray is not None:
            self._ray.add(self._first_held, self._encoder.block_rows)
        else:
            self._encoder.add_separate_parts(self._partial, part, self._first_held)
        self._partial.join_factors(_FACTORS, self._space.num_factors)
        parts = [path for _, _, path in self._partial.parts()]
        if self.plan.on_disk:
            name = _TUNING_LISTS if self.plan.held else _LISTS
            merge_on_disk(self.index, parts, self._path(name))
        else:
            join_parts(self.index, parts)

    def _add_held(self) -> None:
        if not self.plan.held or self._at_once:
            return
        if not self.plan.on_disk:
            self._encoder.add(self.index, self._first_held, self.plan.count)
            return
        self.index = load_index(self._path(TRAINED))
        self._encoder.add(self.index, self._first_held, self.plan.count)
        self._partial.commit(_HELD, lambda file: write_part(self.index, file.write))
        self.index.reset()
        parts = [*(path for _, _, path in self._partial.parts()), self._path(_HELD)]
        merge_on_disk(self.index, parts, self._path(_LISTS))

    def _tune(self) -> None:
        if not self._path(_TUNED).exists():
            points = self._measured()
            configs = [point.to_config() for point in points]
            self._partial.keep(_TUNED, json.dumps(configs).encode())
        points = json.loads(self._path(_TUNED).read_bytes())
        self._points = tuple(OperatingPoint.from_config(point) for point in points)

    def _measured(self) -> list[OperatingPoint]:
        judge = Reranker(self._space, self._rows, self._order, self._factors())
        reranker = judge if self.plan.rerank else None
        searcher = Searcher(self.index, self._space, SearchParams(), reranker, self._left_out())
        if not self.plan.held:
            return exact_point(searcher, self._rows) if self.plan.factory == "Flat" else []
        queries = self._rows.read(self._order.span(self._first_held, self.plan.count))
        if self._ray is None:
            _, true = nearest_rows(
                self._space.project(queries), self._rows, self._order, self._space, NEAREST,
                stop=self._first_held,
            )  # fmt: skip
        else:
            _, true = self._ray.nearest(self._first_held, self._encoder.block_rows)
        points = measure_frontier(searcher, judge, queries, true)
        searcher.close()
        return points

    def _left_out(self) -> NDArray[np.bool_] | None:
        """Held-out rows that had to be added before they are searched with."""
        if not self._at_once or not self.plan.held:
            return None
        return np.arange(self.plan.count) >= self._first_held

    def _factors(self) -> NDArray[np.float32]:
        """The factors of what was added."""
        width = self._space.num_factors
        if not width or not self._first_held:
            return np.empty((self._first_held, width), np.float32)
        return np.memmap(self._path(_FACTORS), "<f4", "r").reshape(-1, width)

    def _write_ids(self, write: Callable[[bytes], int]) -> None:
        write_ids(self._rows, self._order, 0, self.plan.count, write)

    def _write_hashes(self, write: Callable[[bytes], int]) -> None:
        write(self._rows.hashes()[self._order.span(0, self.plan.count)].tobytes())

    def _path(self, name: str) -> Path:
        return self._partial.path(name)


def write_ids(
    rows: StoreRows,
    order: RowOrder,
    start: int,
    stop: int,
    write: Callable[[bytes], int],
) -> None:
    """Writes the ids of some positions, each ended by a NUL byte."""
    stage = Stage("writing ids", stop - start, unit="ids")
    for first in range(start, stop, _IDS_AT_ONCE):
        last = min(first + _IDS_AT_ONCE, stop)
        names = rows.ids(order.span(first, last))
        write(b"".join(name + b"\0" for name in names))
        stage.update(last - start)
